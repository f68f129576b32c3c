//! About ten functions for phones. Without content yet: it comes with the mobile issue.
