//! Layout 3: how much of the inbox is of which peer stands in rows of its own.

use std::collections::BTreeMap;

use ruma::OwnedServerName;

use crate::{Error, WriteTxn, tables};

pub(super) fn migrate(txn: &mut WriteTxn<'_>) -> Result<(), Error> {
    let mut waiting: BTreeMap<OwnedServerName, u64> = BTreeMap::new();
    for row in txn.view().scan(tables::INBOX, ())? {
        *waiting.entry(row?.1.origin).or_default() += 1;
    }
    waiting.iter().try_for_each(|(origin, count)| txn.put(tables::INBOX_WAITING, origin, count))
}
