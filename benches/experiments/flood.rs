//! X27: one tenant is flooded with mail, and what another one's sender notices.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use syncmx::cli::demo::mailer::{Mailer, Security};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::Desk;
use crate::app::TestApp;
use crate::clients::p99;
use crate::mail::{ANNA_FORWARDED, Draft, LENA};
use crate::{Row, Scale};

const MANY: &str = "SYNCMX_SMTP__MAX_CONNECTIONS_PER_IP=20000";
const SESSIONS: u8 = 16;
/// Mails a second that the flood tries.
const FLOOD: u64 = 500;

pub(crate) async fn x27_flood(scale: Scale) -> Row {
    let app = TestApp::start_with(&[MANY]).await;
    let (quiet, flooded) = (Desk::open(&app).await, Desk::open(&app).await);
    // R52: a sync address takes 500 a day.
    let count = scale.of(240).min(240);
    let alone = good_client(&app, &quiet, "alone", count).await;
    let stop = CancellationToken::new();
    let mut flood = JoinSet::new();
    // Judged whole and discarded: its contact is not marked.
    let from = "Anna Bergmann <anna.bergmann@web-post.test>";
    let raw = ANNA_FORWARDED.sign(&Draft { id: "flood", from, to: LENA.mail_from, ..Draft::default() }.raw());
    let began = Instant::now();
    let security = Security::starttls().unwrap();
    for session in 1..=SESSIONS {
        let (server, stop, raw, security) = (app.smtp, stop.clone(), raw.clone(), security.clone());
        let rcpt = [flooded.auto.clone()];
        flood.spawn(async move {
            let mut pace =
                tokio::time::interval(Duration::from_micros(1_000_000 * u64::from(SESSIONS) / FLOOD));
            let (mut done, mut sessions) = (0_u32, 0_u8);
            while !stop.is_cancelled() {
                // Each session takes so many mails; nobody is stopped for coming from one address.
                let client = Ipv4Addr::new(127, 3, session, sessions);
                sessions = sessions.wrapping_add(1);
                let mailer = Mailer::connect(server, client.into(), ANNA_FORWARDED.helo, &security).await;
                let Ok(mut mailer) = mailer else { continue };
                while !stop.is_cancelled() {
                    pace.tick().await;
                    if mailer.send(ANNA_FORWARDED.mail_from, &rcpt, &raw).await.is_err() {
                        break;
                    }
                    done += 1;
                }
            }
            done
        });
    }
    let beside = good_client(&app, &quiet, "beside", count).await;
    stop.cancel();
    let done: u32 = flood.join_all().await.into_iter().sum();
    let rate = f64::from(done) / began.elapsed().as_secs_f64();
    Row {
        id: "X27",
        what: format!("one tenant flooded by {SESSIONS} sessions that try {FLOOD} mails/s"),
        measured: format!(
            "{rate:.0} mails/s answered; another tenant's p99 MAIL to 250 {:.0} ms, {:.0} ms without the flood",
            beside.as_secs_f64() * 1e3,
            alone.as_secs_f64() * 1e3
        ),
        passed: beside < 2 * alone,
    }
}

async fn good_client(app: &TestApp, desk: &Desk, name: &str, count: usize) -> Duration {
    let mut mailer = app.connect(&LENA).await;
    let mut pace = tokio::time::interval(Duration::from_millis(30));
    let mut took = Vec::new();
    for number in 0..count {
        pace.tick().await;
        let id = format!("{name}-{number}");
        let raw = LENA.sign(&Draft { id: &id, ..Draft::default() }.raw());
        // A session takes so many mails and no more.
        if number % 20 == 19 {
            mailer = app.connect(&LENA).await;
        }
        let mailing = Instant::now();
        let answers = mailer.send(LENA.mail_from, std::slice::from_ref(&desk.sync), &raw).await.unwrap();
        assert_eq!(answers.decisive().code, 250, "{}", answers.decisive().text);
        took.push(mailing.elapsed());
    }
    p99(took)
}
