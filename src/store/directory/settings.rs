//! Account settings: what is stored, what is given, what is refused.
//!
//! Only what differs from the defaults is stored, so that a default may change for everybody who never chose.
//! Reading always goes through [`Settings`].

use serde_json::{Map, Value};

use crate::address::EmailAddress;
use crate::filing::{ForwardReplies, Settings};
use crate::store::directory::DirectoryError;

/// The settings that a stored object stands for. What cannot be read counts as never set: a row is never the
/// reason that mail stops.
#[must_use]
pub(super) fn read(stored: &str) -> Settings {
    serde_json::from_str(stored).unwrap_or_default()
}

/// A stored object as a map.
#[must_use]
pub(super) fn object(stored: &str) -> Map<String, Value> {
    serde_json::from_str(stored).unwrap_or_default()
}

/// Replaces the given keys; returns what is to be stored and the settings it stands for.
///
/// # Errors
/// `Invalid`, naming the key.
pub fn merge(
    stored: &Map<String, Value>,
    given: &Map<String, Value>,
) -> Result<(Map<String, Value>, Settings), DirectoryError> {
    for (key, value) in given {
        check(key, value)?;
    }
    let mut merged = stored.clone();
    merged.extend(given.clone());
    let settings: Settings = serde_json::from_value(Value::Object(merged.clone()))
        .map_err(|error| DirectoryError::invalid("settings", error.to_string()))?;
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    merged.retain(|key, value| defaults.get(key) != Some(value));
    Ok((merged, settings))
}

/// One key alone, so that the answer can name it.
fn check(key: &str, value: &Value) -> Result<(), DirectoryError> {
    let invalid = |why: String| DirectoryError::invalid(format!("settings.{key}"), why);
    let alone = Value::Object(std::iter::once((key.to_owned(), value.clone())).collect());
    let settings: Settings = serde_json::from_value(alone).map_err(|error| {
        let why = error.to_string();
        invalid(if why.starts_with("unknown field") { "is no setting".to_owned() } else { why })
    })?;
    let names = [&settings.internal_domains, &settings.trusted_arc_sealers];
    if let Some(bad) = names.into_iter().flatten().find(|name| !is_domain(name)) {
        return Err(invalid(format!("`{bad}` is no domain")));
    }
    if let Some(bad) = settings.internal_addresses.iter().find(|text| EmailAddress::parse(text).is_none()) {
        return Err(invalid(format!("`{bad}` is no address")));
    }
    let never =
        settings.never_log.iter().find(|text| !is_domain(text) && EmailAddress::parse(text).is_none());
    if let Some(bad) = never {
        return Err(invalid(format!("`{bad}` is neither address nor domain")));
    }
    if let ForwardReplies::Address(address) = &settings.forward_replies
        && EmailAddress::parse(address).is_none()
    {
        return Err(invalid("must be `off`, `user` or an address".to_owned()));
    }
    for source in &settings.journal_sources {
        if !is_domain(&source.domain) {
            return Err(invalid(format!("`{}` is no domain", source.domain)));
        }
        if let Some(bad) = source.networks.iter().find(|network| !is_network(network)) {
            return Err(invalid(format!("`{bad}` is no network (example: 192.0.2.0/24)")));
        }
    }
    let days = [Some(settings.held_days), settings.content_days, Some(settings.trace_days)];
    if days.contains(&Some(0)) || settings.mark_idle_months == Some(0) {
        return Err(invalid("must be at least 1".to_owned()));
    }
    Ok(())
}

fn is_domain(name: &str) -> bool {
    !name.starts_with('[') && EmailAddress::parse(&format!("a@{name}")).is_some_and(|a| a.domain() == name)
}

fn is_network(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    prefix.is_none_or(|prefix| prefix.parse::<u8>().is_ok_and(|prefix| prefix <= bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[track_caller]
    fn refused(given: &str, field: &str) {
        match merge(&Map::new(), &map(given)) {
            Err(DirectoryError::Invalid { field: named, .. }) => assert_eq!(named, field, "{given}"),
            other => panic!("{given}: {other:?}"),
        }
    }

    #[test]
    fn a_patch_replaces_the_keys_given_and_only_what_differs_is_stored() {
        let (stored, settings) = merge(
            &map(r#"{"daily_limit":7,"held_days":9}"#),
            &map(r#"{"daily_limit":500,"content_days":10}"#),
        )
        .unwrap();
        assert_eq!(Value::Object(stored), serde_json::json!({"held_days": 9, "content_days": 10}));
        assert_eq!((settings.daily_limit, settings.held_days, settings.content_days), (500, 9, Some(10)));
    }

    #[test]
    fn an_unknown_key_or_a_bad_value_is_refused_by_its_name() {
        refused(r#"{"dayly_limit":1}"#, "settings.dayly_limit");
        refused(r#"{"daily_limit":"many"}"#, "settings.daily_limit");
        refused(r#"{"daily_limit":-1}"#, "settings.daily_limit");
        refused(r#"{"unknown_to":"keep"}"#, "settings.unknown_to");
        refused(r#"{"internal_domains":["a b.test"]}"#, "settings.internal_domains");
        refused(r#"{"internal_addresses":["nobody"]}"#, "settings.internal_addresses");
        refused(r#"{"never_log":["@"]}"#, "settings.never_log");
        refused(r#"{"forward_replies":"sometimes"}"#, "settings.forward_replies");
        refused(r#"{"attachments":"yahoo"}"#, "settings.attachments");
        refused(r#"{"attachments":{"max_total":1,"colour":"red"}}"#, "settings.attachments");
        refused(
            r#"{"journal_sources":[{"domain":"a.test","networks":["192.0.2.0/33"]}]}"#,
            "settings.journal_sources",
        );
        refused(r#"{"held_days":0}"#, "settings.held_days");
        refused(r#"{"held_days":null}"#, "settings.held_days");
    }
}
