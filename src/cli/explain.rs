//! `syncmx explain`: a dry run, rule by rule. Reads the store, writes nothing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use crate::address::{Asked, EmailAddress, Mailbox};
use crate::app;
use crate::auth::Authenticator;
use crate::cli::inspect::{Origin, read_mail};
use crate::cli::{Failure, output};
use crate::config::Config;
use crate::filing::{self, Arrival, FreshIds, Outcome, Reason, Step};
use crate::id::{ContactId, ConversationId, DeliveryId, MessageId};
use crate::intake::{self, ExamineError};
use crate::smtp::{ForwardPath, Received, Reply, reply};
use crate::store::{Lookup, Store};
use crate::time::Timestamp;
use crate::wire::{AuthView, StepView};

/// `explain FILE.eml… --rcpt ADDR`
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Mails as files; `-` reads one from standard input.
    #[arg(required = true, value_name = "FILE.eml")]
    files: Vec<PathBuf>,
    /// The envelope recipient.
    #[arg(long, value_name = "ADDRESS")]
    rcpt: String,
    #[command(flatten)]
    origin: Origin,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Explained {
    file: String,
    rcpt: String,
    auth: Option<AuthView>,
    outcome: &'static str,
    reason: &'static str,
    smtp: String,
    steps: Vec<StepView>,
}

pub(super) async fn run(config: &Config, arguments: Arguments) -> Result<ExitCode, Failure> {
    let rcpt = EmailAddress::parse(&arguments.rcpt)
        .ok_or_else(|| Failure::Usage(format!("--rcpt: `{}` is no address", arguments.rcpt)))?;
    let (_, store) = app::open_store(config).await?;
    let asked = app::served_domains(config).classify(&ForwardPath::Address(rcpt));
    let mailbox = match store.mailbox(&asked).await.map_err(|error| Failure::unreachable(&error))? {
        Lookup::Found(mailbox) => mailbox,
        Lookup::Off(_) => return Ok(refused(&arguments, Reason::AddressOff, &reply::ADDRESS_OFF)),
        Lookup::Unknown if asked == Asked::Foreign => {
            return Ok(refused(&arguments, Reason::RelayDenied, &reply::RELAY_DENIED));
        }
        Lookup::Unknown => return Ok(refused(&arguments, Reason::UnknownAddress, &reply::UNKNOWN_ADDRESS)),
    };
    arguments.origin.check()?;
    let authenticator = Authenticator::new(&config.dns, &config.smtp.hostname)
        .map_err(|error| Failure::unreachable(&error))?;
    let mut all_read = true;
    for path in &arguments.files {
        let file = path.display().to_string();
        match explain(&store, &authenticator, &mailbox, &arguments, path).await? {
            Ok(fate) => show(&arguments, file, fate),
            Err(error) => {
                all_read = false;
                if arguments.json {
                    output::json(&serde_json::json!({"file": file, "error": error}));
                } else {
                    output::line(&format!("{file}: {error}"));
                }
            }
        }
    }
    store.close().await;
    Ok(if all_read { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What RCPT would be answered: no mail of any content gets further.
fn refused(arguments: &Arguments, reason: Reason, answer: &Reply) -> ExitCode {
    for path in &arguments.files {
        let (file, rcpt) = (path.display().to_string(), &arguments.rcpt);
        if arguments.json {
            output::json(&serde_json::json!({
                "file": file, "rcpt": rcpt, "auth": null, "outcome": Outcome::Rejected.as_str(),
                "reason": reason.as_str(), "smtp": answer.line(), "steps": [],
            }));
        } else {
            output::line(&format!(
                "{file}\n  rejected at RCPT, {}; the sender is told: {}",
                reason.as_str(),
                answer.line()
            ));
        }
    }
    ExitCode::from(1)
}

async fn explain(
    store: &Store,
    authenticator: &Authenticator,
    mailbox: &Mailbox,
    arguments: &Arguments,
    path: &std::path::Path,
) -> Result<Result<Fate, String>, Failure> {
    let prepared = read_mail(path).and_then(|raw| Ok((arguments.origin.subject(&raw)?, raw)));
    let (mut subject, raw) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Ok(Err(error)),
    };
    // As the server does: what has no author is looked up for the postmaster alone.
    subject.is_for_postmaster = *mailbox == Mailbox::Postmaster;
    let raw = Arc::new(Received::from(Vec::from(raw)));
    let examined = match intake::examine(authenticator, &subject, &raw).await {
        Ok(examined) => examined,
        Err(ExamineError::TooComplex(limit)) => {
            return Ok(Ok(Fate::of(intake::too_complex(&limit), None)));
        }
        Err(error) => return Ok(Err(error.to_string())),
    };
    let auth = AuthView::from(&examined.verdict);
    if let Some(refusal) = intake::refusal_by(&examined.verdict) {
        return Ok(Ok(Fate::of(refusal, Some(auth))));
    }
    let arrival = Arrival {
        mailbox,
        verdict: &examined.verdict,
        email: &examined.email,
        reverse_path: subject.mail_from.as_ref(),
        client_ip: subject.client_ip,
        received_at: Timestamp::now(),
        size_bytes: raw.as_bytes().len() as u64,
        fresh: FreshIds {
            contact: ContactId::generate(),
            conversation: ConversationId::generate(),
            message: MessageId::generate(),
        },
    };
    let facts = store.facts_for(&arrival).await.map_err(|error| Failure::unreachable(&error))?;
    let (decision, mut trace) = filing::decide(&arrival, &facts);
    let _who_sees_it_too = filing::seen_by(&arrival, &facts, &decision, &mut trace);
    let _whether_a_copy_goes_on = filing::relay(&arrival, &facts, &decision, &mut trace);
    let steps = examined.steps.iter().cloned().chain(trace.steps).collect();
    let (outcome, reason) = (decision.outcome(), decision.reason());
    let answer = filing::answer(&[(DeliveryId::generate(), decision)]);
    Ok(Ok(Fate { auth: Some(auth), outcome, reason, answer: Reply { trace: None, ..answer }, steps }))
}

/// What becomes of a mail.
struct Fate {
    auth: Option<AuthView>,
    outcome: Outcome,
    reason: Reason,
    answer: Reply,
    steps: Vec<Step>,
}

impl Fate {
    /// Of what ends before the rules are asked.
    fn of(refusal: intake::Answer, auth: Option<AuthView>) -> Self {
        let intake::Answer { outcome, reason, reply, step } = refusal;
        Self { auth, outcome, reason, answer: reply, steps: vec![step] }
    }
}

fn show(arguments: &Arguments, file: String, fate: Fate) {
    let Fate { auth, outcome, reason, answer, steps } = fate;
    let (outcome, reason, smtp) = (outcome.as_str(), reason.as_str(), answer.line());
    if arguments.json {
        let (rcpt, steps) = (arguments.rcpt.clone(), steps.iter().map(StepView::from).collect());
        output::json(&Explained { file, rcpt, auth, outcome, reason, smtp, steps });
        return;
    }
    output::line(&file);
    for step in steps {
        output::line(&format!("  {:<8} {}", step.rule, step.said));
    }
    let what = if outcome == reason { outcome.to_owned() } else { format!("{outcome}, {reason}") };
    output::line(&format!("  {:<8} {what}; the sender is told: {smtp}\n", "→"));
}
