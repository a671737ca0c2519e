//! Mail HTML for a reader's browser: an allow-list of elements, attributes and schemes.
//!
//! Promises that nothing in it runs, submits, loads from elsewhere (images only by `cid:`), or reaches the page
//! around it. What style sheets did is lost.

use std::borrow::Cow;

/// Cleans it.
pub(super) fn html(dirty: &str) -> String {
    let mut builder = ammonia::Builder::default();
    builder
        .url_schemes(["cid", "http", "https", "mailto"].into())
        .url_relative(ammonia::UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"))
        .rm_tags(["map", "area"])
        .attribute_filter(|element, attribute, value| match (element, attribute) {
            // A remote image tells the sender that, when and where the mail was read.
            (_, "src") => {
                value.trim_start().to_ascii_lowercase().starts_with("cid:").then_some(Cow::Borrowed(value))
            }
            (_, "cite" | "background" | "longdesc" | "srcset") => None,
            _ => Some(Cow::Borrowed(value)),
        });
    builder.clean(dirty).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(dirty: &str, clean: &str) {
        assert_eq!(html(dirty), clean, "{dirty}");
    }

    #[test]
    fn what_runs_or_loads_is_taken_out() {
        check("<p onclick=\"x()\">a<script>b()</script></p>", "<p>a</p>");
        check("<img src=\"https://tracker.test/p.gif\" alt=\"x\">", "<img alt=\"x\">");
        check("<img src=\" HTTPS://tracker.test/p.gif\">", "<img>");
        check("<img src=\"data:image/svg+xml,x\">", "<img>");
        check(
            "<style>@import url(http://x.test)</style><p style=\"background:url(http://x.test)\">a</p>",
            "<p>a</p>",
        );
        check("<iframe src=\"http://x.test\"></iframe><form action=\"http://x.test\"><input></form>", "");
        check("<a href=\"javascript:x()\">a</a>", "<a rel=\"noopener noreferrer nofollow\">a</a>");
        check("<a href=\"/admin\">a</a>", "<a rel=\"noopener noreferrer nofollow\">a</a>");
        check(
            "<table background=\"http://x.test/y.png\"><tr><td>a</td></tr></table>",
            "<table><tbody><tr><td>a</td></tr></tbody></table>",
        );
        check("<svg><use href=\"http://x.test\"></use></svg><meta http-equiv=refresh content=0>", "");
    }

    #[test]
    fn words_links_and_inline_images_stay() {
        check(
            "<b>a</b> <a href=\"https://x.test/\">b</a>",
            "<b>a</b> <a href=\"https://x.test/\" rel=\"noopener noreferrer nofollow\">b</a>",
        );
        check(
            "<a href=\"mailto:a@b.test\">c</a>",
            "<a href=\"mailto:a@b.test\" rel=\"noopener noreferrer nofollow\">c</a>",
        );
        check("<img src=\"cid:part1@x.test\">", "<img src=\"cid:part1@x.test\">");
    }
}
