//! Reverse DNS of the client, confirmed forward (RFC 8601 section 3): a name only if its addresses hold the client's.

use std::net::IpAddr;

use super::dns::{Failure, Lookups};
use super::{AuthResult, domain};

/// PTR names that are looked at.
const MAX_NAMES: usize = 2;

/// The result, and the confirmed name.
pub(super) async fn check(lookups: &Lookups<'_>, client: IpAddr) -> (AuthResult, Option<String>) {
    let client = client.to_canonical();
    let names = match lookups.ptr(client).await {
        Ok(names) => names,
        Err(Failure::Temporary) => return (AuthResult::TempError, None),
        // RFC 8601 section 2.7.3: a client without a name is a permerror.
        Err(Failure::NoDomain | Failure::NoRecord | Failure::OverBudget) => {
            return (AuthResult::PermError, None);
        }
    };
    let mut result = AuthResult::Fail;
    for name in names.iter().take(MAX_NAMES).filter_map(|name| domain::normalised(name)) {
        match lookups.addresses_like(client, &name).await {
            Ok(addresses) if addresses.contains(&client) => return (AuthResult::Pass, Some(name)),
            Err(Failure::Temporary) => result = AuthResult::TempError,
            Ok(_) | Err(Failure::NoDomain | Failure::NoRecord | Failure::OverBudget) => {}
        }
    }
    (result, None)
}
