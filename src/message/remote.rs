//! What an HTML part would load from elsewhere when it is shown (SMTP.md M15): tracking images, style sheets, fonts,
//! frames. Nothing is ever fetched; only their number is told.

use super::html_tags::{Attributes, Tag, Tags, Token};

/// Elements, style sheets' addresses, and styles that point elsewhere. Linear in the length of the part.
pub(super) fn count(html: &str) -> usize {
    let elements = Tags::with_head(html).filter(|token| match token {
        Token::Tag(tag) => !tag.is_closing && loads(tag),
        Token::Text(_) => false,
    });
    elements.count() + style_addresses(html)
}

fn loads(tag: &Tag<'_>) -> bool {
    // Most tags have no attributes, or none with an address.
    if memchr::memmem::find(tag.rest.as_bytes(), b"//").is_none() {
        return false;
    }
    let attributes = Attributes::of(tag.rest);
    let is_link = tag.name == "link" && is_elsewhere(attributes.value("href"));
    is_link || LOADING.iter().any(|name| is_elsewhere(attributes.value(name)))
}

/// `url(https://…)`, of style sheets and of `style` attributes.
fn style_addresses(html: &str) -> usize {
    let octets = html.as_bytes();
    let is_one = |at: &usize| {
        let before = octets.get(at.saturating_sub(3)..*at);
        let behind = html.get(at + 1..).map(|rest| rest.trim_start_matches([' ', '"', '\'']));
        before.is_some_and(|name| name.eq_ignore_ascii_case(b"url")) && behind.is_some_and(is_elsewhere)
    };
    memchr::memchr_iter(b'(', octets).filter(is_one).count()
}

fn is_elsewhere(address: &str) -> bool {
    let address = address.trim_start();
    ["http://", "https://", "//"]
        .iter()
        .any(|scheme| address.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// Attributes whose address a browser asks for unasked.
const LOADING: [&str; 6] = ["src", "srcset", "background", "data", "lowsrc", "poster"];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(html: &str, expected: usize) {
        assert_eq!(count(html), expected, "{html}");
    }

    #[test]
    fn m15_what_would_be_loaded_from_elsewhere_is_counted() {
        check("<p>no more than <a href=\"https://x.test/\">a link</a>, and //this</p>", 0);
        check("<img src=\"cid:logo@x.test\"><img src=\"data:image/png;base64,//8\"><img alt=\"//\">", 0);
        check("<img src=\"https://x.test/p.gif\" width=1><IMG SRC='HTTP://x.test/p'><img src=//x.test/p>", 3);
        check("<head><link rel=\"prefetch\" href=\"https://x.test/\"></head>a", 1);
        check("<style>@import url(http://x.test/a); p { background: URL( \"//x.test/b\") }</style>", 2);
        check("<td background=\"http://x.test/b\"><video poster=\"https://x.test/v\"></video>", 2);
        check("<div style=\"background:url('https://x.test/')\">a</div>", 1);
        check("<img srcset=\"https://x.test/2 2x\" src=\"https://x.test/1\">", 1);
    }

    #[test]
    fn m14_hostile_markup_takes_linear_time() {
        for hostile in ["(", "url(", "url( ", "<img src=//", "<head>", "<a b='", "<link href=\"//"] {
            let _ = count(&hostile.repeat(200_000));
        }
    }
}
