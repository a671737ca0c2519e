//! clamd, where `scan.clamd` is set: whether it answers, and whether it takes the largest message.

use crate::cli::check::report::Line;
use crate::config::Config;
use crate::malware::{ScanError, Scanner};

pub(super) async fn check(config: &Config) -> Option<Line> {
    let clamd = config.scan.as_ref()?.clamd;
    let shown = clamd.to_string();
    let scanner = Scanner::new(clamd);
    let asked = async {
        let version = scanner.version().await?;
        let largest = vec![b'\n'; usize::try_from(config.smtp.max_message_size).unwrap_or(usize::MAX)];
        scanner.scan(&largest).await.map(|_| version)
    };
    Some(match asked.await {
        Ok(version) => Line::ok("scan", &shown, format!("{version} answers, and takes the largest message")),
        Err(error @ ScanError::TooLarge) => {
            Line::red("scan", &shown, error.to_string(), "raise StreamMaxLength in clamd.conf")
        }
        Err(error) => {
            Line::red("scan", &shown, error.to_string(), "start clamd: all mail is put off without it")
        }
    })
}
