//! Tables of the README that repeat the code say what the code says.
#![expect(clippy::unwrap_used, reason = "a README that cannot be read has failed")]

use std::path::Path;

use syncmx::config::Config;
use syncmx::filing::Reason;

#[test]
fn the_reasons_table_lists_every_reason_once() {
    let listed = table("<!-- reasons:");
    let known: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(listed, known);
}

#[test]
fn every_setting_of_the_table_is_known_to_the_configuration() {
    let keys = table("<!-- settings:");
    assert!(keys.len() > 20);
    for key in keys {
        let (section, name) = key.rsplit_once('.').unwrap();
        let text = format!("[{section}]\n{name} = {{ never = 1 }}\n");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("syncmx.toml");
        std::fs::write(&path, text).unwrap();
        let error = Config::load(Some(&path), []).unwrap_err().to_string();
        assert!(!error.contains("unknown field"), "{key}: {error}");
    }
}

/// The first code span of each row of the table behind a marker.
fn table(marker: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let behind = readme.split(marker).nth(1).unwrap();
    behind
        .lines()
        .skip(3)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('`').nth(1).unwrap().to_owned())
        .collect()
}
