//! R56: which attachments a record takes. What is over the account's limits is listed with the reason, and the
//! message is filed all the same; the raw message stays whole.

use crate::filing::{AttachmentLimits, AttachmentPolicy, AttachmentPreset};
use crate::message::{Attachment, extension};

/// An attachment that the record does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its number on the message.
    pub n: usize,
    /// Why, in words for staff.
    pub why: String,
}

/// The attachments that the policy keeps off the record, in order.
#[must_use]
pub fn skipped(attachments: &[Attachment], policy: &AttachmentPolicy) -> Vec<Skipped> {
    let limits = Limits::of(policy);
    let mut total = 0_u64;
    let mut skipped = Vec::new();
    for attachment in attachments {
        let why = limits.objection(attachment, total);
        match why {
            Some(why) => skipped.push(Skipped { n: attachment.n, why }),
            None => total = total.saturating_add(attachment.size),
        }
    }
    skipped
}

struct Limits<'a> {
    max_total: Option<u64>,
    max_each: Option<u64>,
    allowed: Allowed<'a>,
}

enum Allowed<'a> {
    AnyButExecutables,
    Only(Vec<&'a str>),
}

impl<'a> Limits<'a> {
    fn of(policy: &'a AttachmentPolicy) -> Self {
        match policy {
            AttachmentPolicy::Preset(AttachmentPreset::Gmail) => Self {
                max_total: Some(GMAIL_TOTAL_OCTETS),
                max_each: None,
                allowed: Allowed::AnyButExecutables,
            },
            AttachmentPolicy::Preset(AttachmentPreset::Outlook) => Self {
                max_total: None,
                max_each: Some(OUTLOOK_EACH_OCTETS),
                allowed: Allowed::Only(OUTLOOK_EXTENSIONS.to_vec()),
            },
            AttachmentPolicy::Limits(AttachmentLimits { max_total, max_each, allow }) => Self {
                max_total: *max_total,
                max_each: *max_each,
                allowed: match allow {
                    None => Allowed::AnyButExecutables,
                    Some(allow) => {
                        Allowed::Only(allow.iter().map(|entry| entry.trim_start_matches('.')).collect())
                    }
                },
            },
        }
    }

    fn objection(&self, attachment: &Attachment, total: u64) -> Option<String> {
        let extension = extension(&attachment.filename);
        match &self.allowed {
            Allowed::AnyButExecutables if EXECUTABLE_EXTENSIONS.contains(&extension.as_str()) => {
                return Some(format!("programs (.{extension}) are not kept"));
            }
            // R57: the name may say anything, the content says what would run.
            Allowed::AnyButExecutables if attachment.is_program => {
                return Some("its content is a program, and programs are not kept".to_owned());
            }
            Allowed::Only(allow) => {
                let is_allowed =
                    |wanted: &str| allow.iter().any(|allowed| allowed.eq_ignore_ascii_case(wanted));
                if !is_allowed(&extension) {
                    return Some(format!("files of this type (.{extension}) are not kept"));
                }
                let content = attachment.detected.filter(|_| attachment.mismatch.is_some());
                if let Some(content) = content.filter(|content| !is_allowed(content)) {
                    return Some(format!("its content is of a type (.{content}) that is not kept"));
                }
            }
            Allowed::AnyButExecutables => {}
        }
        if let Some(max) = self.max_each.filter(|max| attachment.size > *max) {
            return Some(format!("larger than {} for one file", shown(max)));
        }
        self.max_total
            .filter(|max| total.saturating_add(attachment.size) > *max)
            .map(|max| format!("over {} for all files of a message", shown(max)))
    }
}

fn shown(octets: u64) -> String {
    if octets >= MB { format!("{} MB", octets / MB) } else { format!("{octets} octets") }
}

const MB: u64 = 1024 * 1024;
const GMAIL_TOTAL_OCTETS: u64 = 25 * MB;
const OUTLOOK_EACH_OCTETS: u64 = 3 * MB;
const OUTLOOK_EXTENSIONS: [&str; 11] =
    ["jpg", "jpeg", "png", "mp4", "mpeg", "zip", "rar", "pdf", "doc", "docx", "txt"];
/// What large mailbox providers refuse as programs, by extension.
const EXECUTABLE_EXTENSIONS: [&str; 52] = [
    "ade",
    "adp",
    "apk",
    "appx",
    "appxbundle",
    "bat",
    "cab",
    "chm",
    "cmd",
    "com",
    "cpl",
    "dll",
    "dmg",
    "ex",
    "ex_",
    "exe",
    "hta",
    "img",
    "ins",
    "iso",
    "isp",
    "jar",
    "js",
    "jse",
    "lib",
    "lnk",
    "mde",
    "msc",
    "msi",
    "msix",
    "msixbundle",
    "msp",
    "mst",
    "nsh",
    "pif",
    "ps1",
    "scr",
    "sct",
    "shb",
    "sys",
    "vb",
    "vbe",
    "vbs",
    "vhd",
    "vxd",
    "wsc",
    "wsf",
    "wsh",
    "xll",
    "application",
    "gadget",
    "reg",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(n: usize, filename: &str, size: u64) -> Attachment {
        Attachment {
            n,
            filename: filename.to_owned(),
            content_type: "application/octet-stream".to_owned(),
            size,
            sha256: [0; 32],
            inline: false,
            content_id: None,
            detected: None,
            is_program: false,
            mismatch: None,
        }
    }

    #[track_caller]
    fn check(policy: &AttachmentPolicy, files: &[(&str, u64)], expected: &[usize]) {
        let attachments: Vec<_> =
            files.iter().enumerate().map(|(n, (name, size))| attachment(n, name, *size)).collect();
        let skipped: Vec<usize> = skipped(&attachments, policy).iter().map(|skipped| skipped.n).collect();
        assert_eq!(skipped, expected);
    }

    #[test]
    fn r56_gmail_takes_25_mb_a_mail_of_anything_but_programs() {
        let gmail = AttachmentPolicy::Preset(AttachmentPreset::Gmail);
        check(&gmail, &[("a.heic", 20 * MB), ("b.pdf", 5 * MB)], &[]);
        check(&gmail, &[("a.heic", 20 * MB), ("b.pdf", 5 * MB + 1), ("c.txt", 1)], &[1]);
        check(&gmail, &[("invoice.pdf.EXE", 1), ("run.js", 1), ("noname", 1)], &[0, 1]);
    }

    #[test]
    fn r56_outlook_takes_eleven_types_of_3_mb_each() {
        let outlook = AttachmentPolicy::Preset(AttachmentPreset::Outlook);
        check(&outlook, &[("a.JPG", 3 * MB), ("b.pdf", 3 * MB + 1), ("c.heic", 1), ("d.docx", MB)], &[1, 2]);
    }

    #[test]
    fn r56_content_counts_as_well_as_the_name() {
        let disguised = |name: &str, detected, is_program| Attachment {
            detected: Some(detected),
            is_program,
            mismatch: Some("named as something else".to_owned()),
            ..attachment(0, name, 1)
        };
        let (gmail, outlook) = (
            AttachmentPolicy::Preset(AttachmentPreset::Gmail),
            AttachmentPolicy::Preset(AttachmentPreset::Outlook),
        );
        let count = |file: &Attachment, policy| skipped(std::slice::from_ref(file), policy).len();
        let program = disguised("invoice.pdf", "exe", true);
        assert_eq!((count(&program, &gmail), count(&program, &outlook)), (1, 1));
        let photo = disguised("photo.jpg", "heic", false);
        assert_eq!((count(&photo, &gmail), count(&photo, &outlook)), (0, 1));
        let image = disguised("photo.jpg", "png", false);
        assert_eq!((count(&image, &gmail), count(&image, &outlook)), (0, 0));
    }

    #[test]
    fn r56_own_limits_hold_at_the_limit_and_not_one_past() {
        let limits =
            AttachmentLimits { max_total: Some(10), max_each: Some(6), allow: Some(vec!["pdf".to_owned()]) };
        let own = AttachmentPolicy::Limits(limits);
        check(&own, &[("a.pdf", 6), ("b.pdf", 4)], &[]);
        check(&own, &[("a.pdf", 7), ("b.pdf", 6), ("c.pdf", 5), ("d.txt", 1)], &[0, 2, 3]);
    }
}
