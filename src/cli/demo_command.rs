//! `syncmx demo`: the whole server on a throw-away data folder, with the demo practice and its own DNS zone.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use crate::app::App;
use crate::cli::demo::{admin::AdminApi, practice, run, table};
use crate::cli::{Failure, output};
use crate::config::{BlobsUrl, Config};
use crate::zone::{Zone, ZoneServer};

/// `demo`
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Stop after the table; exit code 1 if a mail fared otherwise than its story says.
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let folder = tempfile::tempdir().map_err(|error| Failure::unreachable(&error))?;
    let zone = Zone::parse(practice::ZONE).map_err(|error| Failure::unreachable(&error))?;
    let dns = ZoneServer::start(zone).await.map_err(|error| Failure::unreachable(&error))?;
    let token = fresh_token()?;
    let settings = config(folder.path(), dns.addr());
    let app = App::start(&settings, Some(&token)).await?;
    let base_url = format!("http://{}", app.http);
    let api = AdminApi::new(&base_url, &token).map_err(|error| Failure::unreachable(&error))?;
    let smtp = app.smtp.first().copied().ok_or_else(|| Failure::Unreachable("no SMTP address".to_owned()))?;
    let (practice, played) = run::play(&api, smtp).await.map_err(|error| Failure::unreachable(&error))?;
    output::line(&table::table(&played));
    if arguments.once {
        app.stop().await;
        let all_as_told = played.iter().all(run::Played::is_as_expected);
        return Ok(if all_as_told { ExitCode::SUCCESS } else { ExitCode::from(1) });
    }
    output::line(&format!("SMTP     {smtp}"));
    output::line(&format!("API      {base_url}/api/v1   (document: {base_url}/api/v1/openapi.json)"));
    output::line(&format!("token    {token}"));
    output::line(&format!("account  {}", practice.account));
    output::line(&format!(
        "try      curl -s -H 'Authorization: Bearer {token}' {base_url}/api/v1/accounts/{}/contacts",
        practice.account
    ));
    output::line("Ctrl-C ends the demo and throws its data away.");
    app.announce();
    app.run(|| Ok(settings.clone())).await?;
    Ok(ExitCode::SUCCESS)
}

/// The usual ports if they are free, else any.
fn config(folder: &Path, dns: SocketAddr) -> Config {
    let mut config = Config::default();
    config.smtp.listen = vec![free_or_any(config.smtp.listen.first().copied())];
    config.http.listen = free_or_any(Some(config.http.listen));
    config.http.public_url = format!("http://{}", config.http.listen);
    config.dns.servers = vec![dns];
    config.store.url = crate::config::StoreUrl::Sqlite(folder.join("syncmx.db"));
    config.store.blobs = BlobsUrl::Folder(folder.join("blobs"));
    config.keys.file = folder.join("keys.toml");
    config
}

fn free_or_any(wanted: Option<SocketAddr>) -> SocketAddr {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    wanted.filter(|address| std::net::TcpListener::bind(address).is_ok()).unwrap_or(any)
}

fn fresh_token() -> Result<String, Failure> {
    let mut octets = [0; 32];
    aws_lc_rs::rand::fill(&mut octets).map_err(|error| Failure::unreachable(&error))?;
    Ok(format!("smx_{}", crate::address::token::encode(&octets)))
}
