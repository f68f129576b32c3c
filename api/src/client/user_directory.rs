//! `POST /_matrix/client/v3/user_directory/search`

use millpond_node::{Error, user_directory::UserDirectory};
use ruma::api::client::user_directory::search_users::v3::{Request, Response, User};

use crate::glue::Args;

pub(crate) async fn handler(directory: UserDirectory, args: Args<Request>) -> Result<Response, Error> {
    let limit = usize::try_from(u64::from(args.request.limit)).unwrap_or(usize::MAX);
    let (found, limited) = directory.search(&args.sender.user_id, &args.request.search_term, limit)?;
    let results = found.into_iter().map(|found| {
        let mut user = User::new(found.user_id);
        user.display_name = found.display_name;
        user.avatar_url = found.avatar_url;
        user
    });
    Ok(Response::new(results.collect(), limited))
}
