//! What the markup of mail programs means: which element holds the quoted history, which the signature.
//!
//! A table of the classes and ids that clients write, nothing else.

use super::html_tags::Attributes;

/// What a part of a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Quote,
    /// A line across the page: what follows may be a quote.
    Rule,
    Signature,
}

/// How far a mark reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The element itself.
    Element,
    /// From the element to the end of the page.
    ToTheEnd,
}

/// Whether an element of this name can carry a meaning: attributes of others are not read.
pub(super) fn may_mean(name: &str) -> bool {
    matches!(name, "div" | "blockquote" | "hr" | "table" | "section" | "span" | "p" | "a")
}

/// The meaning of an element.
pub(super) fn of(name: &str, attributes: &Attributes<'_>) -> Option<(Mark, Reach)> {
    if name == "blockquote" && attributes.value("type").eq_ignore_ascii_case("cite") {
        return Some((Mark::Quote, Reach::Element));
    }
    if name == "hr" && by_name(attributes.value("id")).is_none() && attributes.value("data-marker").is_empty()
    {
        return Some((Mark::Rule, Reach::Element));
    }
    // Outlook's line above the header block of what it quotes.
    let style = attributes.value("style");
    if name == "div" && style.contains("border-top:solid") {
        return Some((Mark::Rule, Reach::Element));
    }
    let by_class = attributes.value("class").split_ascii_whitespace().find_map(by_name);
    by_class
        .or_else(|| by_name(attributes.value("id")))
        .or_else(|| by_name(attributes.value("name")))
        .or_else(|| by_data_marker(attributes.value("data-marker")))
}

fn by_name(name: &str) -> Option<(Mark, Reach)> {
    // Outlook writes `x_` before the names that it finds in what it quotes, once for each round.
    let bare = name.trim_start_matches("x_");
    let known = NAMES.iter().find(|(known, ..)| *known == bare).map(|(_, mark, reach)| (*mark, *reach));
    known.or_else(|| {
        let is_yahoo = bare.contains("yahoo_quoted");
        is_yahoo.then_some((Mark::Quote, Reach::Element))
    })
}

/// Zimbra.
fn by_data_marker(value: &str) -> Option<(Mark, Reach)> {
    match value {
        "__DIVIDER__" | "__HEADERS__" => Some((Mark::Quote, Reach::ToTheEnd)),
        "__QUOTED_TEXT__" => Some((Mark::Quote, Reach::Element)),
        "__SIG_PRE__" | "__SIG_POST__" => Some((Mark::Signature, Reach::Element)),
        _ => None,
    }
}

const NAMES: [(&str, Mark, Reach); 33] = [
    ("AppleMailSignature", Mark::Signature, Reach::Element),
    ("OLK_SRC_BODY_SECTION", Mark::Quote, Reach::Element),
    ("OutlookMessageHeader", Mark::Quote, Reach::ToTheEnd),
    ("Signature", Mark::Signature, Reach::Element),
    ("appendonsend", Mark::Quote, Reach::ToTheEnd),
    ("bloop_original_html", Mark::Quote, Reach::Element),
    ("divRplyFwdMsg", Mark::Quote, Reach::ToTheEnd),
    ("divtagdefaultwrapper_signature", Mark::Signature, Reach::Element),
    ("front-blockquote", Mark::Quote, Reach::Element),
    ("gmail_quote", Mark::Quote, Reach::Element),
    ("gmail_quote_container", Mark::Quote, Reach::Element),
    ("gmail_signature", Mark::Signature, Reach::Element),
    ("mail-editor-reference-message-container", Mark::Quote, Reach::Element),
    ("mail_android_quote", Mark::Quote, Reach::Element),
    ("messageReplySection", Mark::Quote, Reach::Element),
    ("messageSignatureSection", Mark::Signature, Reach::Element),
    ("moz-cite-prefix", Mark::Quote, Reach::Element),
    ("moz-email-headers-table", Mark::Quote, Reach::Element),
    ("moz-forward-container", Mark::Quote, Reach::Element),
    ("moz-signature", Mark::Signature, Reach::Element),
    ("ms-outlook-mobile-reference-message", Mark::Quote, Reach::ToTheEnd),
    ("ms-outlook-mobile-signature", Mark::Signature, Reach::Element),
    ("protonmail_quote", Mark::Quote, Reach::Element),
    ("protonmail_signature_block", Mark::Signature, Reach::Element),
    ("reply-intro", Mark::Quote, Reach::Element),
    ("replySplit", Mark::Quote, Reach::Element),
    ("stopSpelling", Mark::Quote, Reach::ToTheEnd),
    ("tutanota_quote", Mark::Quote, Reach::Element),
    ("yahoo_quoted", Mark::Quote, Reach::Element),
    ("yandex_quote", Mark::Quote, Reach::Element),
    ("zmail_extra", Mark::Quote, Reach::Element),
    ("zmail_signature_below", Mark::Signature, Reach::Element),
    ("zwchr", Mark::Quote, Reach::ToTheEnd),
];
