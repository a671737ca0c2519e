//! `syncmx inspect`: authenticates and parses mails without a store (CONTRACT, "`inspect --json`").

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use serde::Serialize;

use crate::address::{EmailAddress, NamedAddress};
use crate::auth::Authenticator;
use crate::cli::{Failure, output};
use crate::config::Config;
use crate::intake::{self, SubjectParts};
use crate::message::{self, Attachment, Email, Forwarded, From, Kind, Report};
use crate::smtp::Received;
use crate::time::Timestamp;
use crate::wire::{AuthView, MeetingView};
use crate::zone::{Zone, ZoneServer};

/// `inspect FILE.eml…`
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Mails as files; `-` reads one from standard input.
    #[arg(required = true, value_name = "FILE.eml")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    origin: Origin,
    /// A zone to answer DNS look-ups from: a master file, or JSON of name → type → values.
    #[arg(long, value_name = "FILE", conflicts_with = "offline")]
    zone: Option<PathBuf>,
    /// No DNS: `auth` is null.
    #[arg(long)]
    offline: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Where the mail is to be taken as coming from.
#[derive(Debug, Args)]
pub(super) struct Origin {
    /// The reverse-path; empty for the null reverse-path. Without it, the mail's Return-Path.
    #[arg(long, value_name = "ADDRESS")]
    mail_from: Option<String>,
    /// The client's address.
    #[arg(long, value_name = "IP")]
    client_ip: Option<IpAddr>,
    /// The EHLO argument.
    #[arg(long, value_name = "NAME")]
    helo: Option<String>,
}

#[derive(Serialize)]
struct Inspected {
    file: String,
    auth: Option<AuthView>,
    message: MessageView,
}

#[derive(Serialize)]
struct Failed {
    file: String,
    error: String,
}

pub(super) async fn run(config: &Config, arguments: Arguments) -> Result<ExitCode, Failure> {
    let zone = match &arguments.zone {
        Some(path) => Some(serve_zone(path).await?),
        None => None,
    };
    let authenticator = match (&zone, arguments.offline) {
        (_, true) => None,
        (Some(zone), false) => {
            let dns = crate::config::Dns { servers: vec![zone.addr()], ..config.dns.clone() };
            Some(new_authenticator(&dns, config)?)
        }
        (None, false) => Some(new_authenticator(&config.dns, config)?),
    };
    arguments.origin.check()?;
    let mut all_read = true;
    for path in &arguments.files {
        let file = path.display().to_string();
        match inspect(path, &arguments.origin, authenticator.as_ref()).await {
            Ok((email, auth)) if arguments.json => {
                output::json(&Inspected { file, auth, message: MessageView::of(&email) });
            }
            Ok((email, auth)) => print_text(&file, &email, auth.as_ref()),
            Err(error) => {
                all_read = false;
                if arguments.json {
                    output::json(&Failed { file, error });
                } else {
                    output::line(&format!("{file}\n  error        {error}\n"));
                }
            }
        }
    }
    Ok(if all_read { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn inspect(
    path: &Path,
    origin: &Origin,
    authenticator: Option<&Authenticator>,
) -> Result<(Email, Option<AuthView>), String> {
    let raw = read_mail(path)?;
    let Some(authenticator) = authenticator else {
        let read = message::check_header(&raw).and_then(|()| message::parse(&raw));
        return Ok((read.map_err(|error| error.to_string())?, None));
    };
    let subject = origin.subject(&raw)?;
    let raw = Arc::new(Received::from(Vec::from(raw)));
    let examined = intake::examine(authenticator, &subject, &raw).await.map_err(|error| error.to_string())?;
    Ok((examined.email, Some(AuthView::from(&examined.verdict))))
}

/// Reads a mail, up to the largest size that any server would take.
pub(super) fn read_mail(path: &Path) -> Result<Bytes, String> {
    use std::io::Read;
    let open = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if path.as_os_str() == "-" {
            std::io::stdin().lock().take(MAX_FILE_OCTETS + 1).read_to_end(&mut bytes)?;
        } else {
            std::fs::File::open(path)?.take(MAX_FILE_OCTETS + 1).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    };
    let bytes = open().map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE_OCTETS {
        return Err(format!("larger than {MAX_FILE_OCTETS} octets"));
    }
    Ok(Bytes::from(bytes))
}

impl Origin {
    /// Wrong usage is told once, before any mail.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.subject(b"").map(|_| ()).map_err(Failure::Usage)
    }

    /// Where the mail comes from: as said, else by its Return-Path and from this machine.
    pub(super) fn subject(&self, raw: &[u8]) -> Result<SubjectParts, String> {
        let mail_from = match self.mail_from.as_deref().map(|text| text.trim_matches(['<', '>'])) {
            Some("") => None,
            Some(text) => Some(
                EmailAddress::parse(text).ok_or_else(|| format!("--mail-from: `{text}` is no address"))?,
            ),
            None => return_path(raw),
        };
        Ok(SubjectParts {
            client_ip: self.client_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            helo: self.helo.clone().unwrap_or_else(|| "localhost".to_owned()),
            mail_from,
            opens_journals: true,
            // Whoever inspects a mail wants to know all of it.
            is_for_postmaster: true,
        })
    }
}

fn return_path(raw: &[u8]) -> Option<EmailAddress> {
    let head = raw.get(..raw.len().min(64 * 1024))?;
    let head = String::from_utf8_lossy(head);
    let line = head
        .lines()
        .take_while(|line| !line.is_empty())
        .find(|line| line.get(..12).is_some_and(|name| name.eq_ignore_ascii_case("return-path:")))?;
    EmailAddress::parse(line.split_once(':')?.1.trim().trim_matches(['<', '>']))
}

async fn serve_zone(path: &Path) -> Result<ZoneServer, Failure> {
    let wrong = |error: String| Failure::Usage(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let zone = Zone::parse(&text).map_err(|error| wrong(error.to_string()))?;
    ZoneServer::start(zone).await.map_err(|error| Failure::unreachable(&error))
}

fn new_authenticator(dns: &crate::config::Dns, config: &Config) -> Result<Authenticator, Failure> {
    Authenticator::new(dns, &config.smtp.hostname).map_err(|error| Failure::unreachable(&error))
}

fn print_text(file: &str, email: &Email, auth: Option<&AuthView>) {
    let mut rows: Vec<(&str, String)> = vec![
        (
            "from",
            match &email.from {
                From::Bad(why) => format!("bad: {why}"),
                From::One(author) => named(author),
            },
        ),
        ("to", email.to.iter().map(named).collect::<Vec<_>>().join(", ")),
        ("cc", email.cc.iter().map(named).collect::<Vec<_>>().join(", ")),
        ("subject", email.subject.clone()),
        ("date", email.date.map(Timestamp::to_rfc3339).unwrap_or_default()),
        ("message-id", email.message_id_header.clone().unwrap_or_default()),
        ("kind", email.kind.as_str().to_owned()),
    ];
    if let Some(auth) = auth {
        rows.push(("auth", serde_json::to_string(auth).unwrap_or_default()));
    }
    for attachment in &email.attachments {
        rows.push((
            "attachment",
            format!("{} ({}, {} octets)", attachment.filename, attachment.content_type, attachment.size),
        ));
    }
    rows.push(("problems", email.problems.join("; ")));
    rows.push(("new text", email.reply.new_text.trim().replace('\n', "\n               ")));
    output::line(file);
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        output::line(&format!("  {name:<12} {value}"));
    }
    output::line("");
}

fn named(person: &NamedAddress) -> String {
    match &person.name {
        Some(name) => format!("{name} <{}>", person.address),
        None => person.address.to_string(),
    }
}

/// `message` of CONTRACT's `inspect --json`.
#[derive(Serialize)]
pub(super) struct MessageView {
    kind: &'static str,
    from: Option<PersonView>,
    to: Vec<PersonView>,
    cc: Vec<PersonView>,
    reply_to: Vec<PersonView>,
    subject: String,
    date: Option<String>,
    message_id_header: Option<String>,
    in_reply_to: Option<String>,
    references: Vec<String>,
    text: String,
    new_text: String,
    signature: Option<String>,
    quoted: Option<String>,
    forwarded: Option<ForwardedView>,
    report: Option<ReportView>,
    auto: Option<&'static str>,
    meeting: Option<MeetingView>,
    attachments: Vec<AttachmentView>,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct PersonView {
    name: Option<String>,
    email: String,
}

#[derive(Serialize)]
struct ForwardedView {
    from: Option<PersonView>,
    to: Vec<PersonView>,
    cc: Vec<PersonView>,
    subject: Option<String>,
    date: Option<String>,
    text: String,
}

#[derive(Serialize)]
struct ReportView {
    #[serde(rename = "type")]
    kind: &'static str,
    recipients: Vec<BTreeMap<&'static str, Option<String>>>,
    original_message_id: Option<String>,
}

#[derive(Serialize)]
struct AttachmentView {
    n: usize,
    filename: String,
    content_type: String,
    size: u64,
    sha256: String,
    inline: bool,
}

impl MessageView {
    fn of(email: &Email) -> Self {
        Self {
            kind: email.kind.as_str(),
            from: match &email.from {
                From::Bad(_) => None,
                From::One(author) => Some(PersonView::of(author)),
            },
            to: PersonView::all(&email.to),
            cc: PersonView::all(&email.cc),
            reply_to: PersonView::all(&email.reply_to),
            subject: email.subject.clone(),
            date: email.date.map(Timestamp::to_rfc3339),
            message_id_header: email.message_id_header.clone(),
            in_reply_to: email.in_reply_to.first().cloned(),
            references: email.references.clone(),
            text: email.text.to_string(),
            new_text: email.reply.new_text.to_string(),
            signature: email.reply.signature.clone(),
            quoted: email.reply.quoted.clone(),
            forwarded: email.forwarded.as_ref().map(ForwardedView::of),
            report: email.report.as_ref().map(|report| ReportView::of(email.kind, report)),
            auto: match email.kind {
                Kind::AutoReply => Some("auto_reply"),
                Kind::Bounce | Kind::Complaint | Kind::Forwarded | Kind::Mail => {
                    email.is_bulk.then_some("bulk")
                }
            },
            meeting: email.meeting.as_ref().map(MeetingView::from),
            attachments: email.attachments.iter().map(AttachmentView::of).collect(),
            problems: email.problems.clone(),
        }
    }
}

impl PersonView {
    fn of(person: &NamedAddress) -> Self {
        Self { name: person.name.clone(), email: person.address.as_str().to_owned() }
    }

    fn all(people: &[NamedAddress]) -> Vec<Self> {
        people.iter().map(Self::of).collect()
    }
}

impl ForwardedView {
    fn of(original: &Forwarded) -> Self {
        Self {
            from: original.from.as_ref().map(PersonView::of),
            to: PersonView::all(&original.to),
            cc: PersonView::all(&original.cc),
            subject: original.subject.clone(),
            date: original.date.map(Timestamp::to_rfc3339),
            text: original.text.clone(),
        }
    }
}

impl ReportView {
    fn of(kind: Kind, report: &Report) -> Self {
        let recipients = report.recipients.iter().map(|recipient| {
            BTreeMap::from([
                ("address", Some(recipient.address.clone())),
                ("action", Some(recipient.action.clone())),
                ("status", recipient.status.clone()),
                ("reason", recipient.reason.clone()),
            ])
        });
        Self {
            kind: if kind == Kind::Complaint { "complaint" } else { "bounce" },
            recipients: recipients.collect(),
            original_message_id: report.original_message_id.clone(),
        }
    }
}

impl AttachmentView {
    fn of(attachment: &Attachment) -> Self {
        Self {
            n: attachment.n,
            filename: attachment.filename.clone(),
            content_type: attachment.content_type.clone(),
            size: attachment.size,
            sha256: attachment.sha256.iter().map(|octet| format!("{octet:02x}")).collect(),
            inline: attachment.inline,
        }
    }
}

const MAX_FILE_OCTETS: u64 = 256 * 1024 * 1024;
