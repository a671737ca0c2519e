//! Reads Authentication-Results values (RFC 8601 section 2.2): who says it, and the result of each method. Pure.
//!
//! Promises that comments and quoted strings hide nothing and forge nothing: what stands in them is never a result; and
//! that of a value of any length at most [`MAX_TOKENS`] are held.

/// A value, as far as it could be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Results {
    /// The authserv-id, lower case, without quotes.
    pub authserv_id: String,
    /// In order.
    pub methods: Vec<Method>,
}

/// `dmarc=pass header.from=a.test`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Method {
    /// Lower case, without version.
    pub name: String,
    /// Lower case.
    pub result: String,
    /// `header.from` and the like with their values, lower case.
    pub properties: Vec<(String, String)>,
}

/// Who says it: the authserv-id of an Authentication-Results value, lower case, without quotes; empty where there is
/// none. No more of the value is read.
pub(super) fn authserv_id(value: &[u8]) -> String {
    identifier(Tokens::of(value).next())
}

impl Results {
    /// Reads the value of Authentication-Results.
    #[cfg(test)]
    pub(super) fn parse(value: &[u8]) -> Self {
        let mut clauses = Clauses::of(value);
        let id = clauses.next().unwrap_or_default();
        Self::read(&id, clauses)
    }

    /// Reads the value of ARC-Authentication-Results, in which `i=` stands first (RFC 8617 section 4.1.1).
    pub(super) fn parse_arc(value: &[u8]) -> (Option<usize>, Self) {
        let mut clauses = Clauses::of(value);
        let instance = match clauses.next().unwrap_or_default().as_slice() {
            [Token::Word(i), Token::Equals, Token::Word(number)] if i == "i" => number.parse().ok(),
            _ => None,
        };
        let id = clauses.next().unwrap_or_default();
        (instance.filter(|instance| *instance > 0), Self::read(&id, clauses))
    }

    /// Of a value that is too long to be read whole no method is taken: what was left out might have said otherwise.
    fn read(id: &[Token], mut clauses: Clauses<'_>) -> Self {
        let methods = clauses.by_ref().filter_map(|clause| method(&clause)).collect();
        let methods = if clauses.tokens.is_exhausted() { Vec::new() } else { methods };
        Self { authserv_id: identifier(id.first().cloned()), methods }
    }

    /// Whether a method is given with this result, and with no other.
    pub(super) fn says(&self, method: &str, result: &str) -> bool {
        let mut found = self.methods.iter().filter(|known| known.name == method).peekable();
        found.peek().is_some() && found.all(|known| known.result == result)
    }

    /// The values that a property of a method is given.
    pub(super) fn values<'a>(&'a self, method: &'a str, property: &'a str) -> impl Iterator<Item = &'a str> {
        let methods = self.methods.iter().filter(move |known| known.name == method);
        let properties = methods.flat_map(|known| &known.properties);
        properties.filter(move |(name, _)| name == property).map(|(_, value)| value.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Equals,
    Quoted(String),
    Semicolon,
    Word(String),
}

fn identifier(first: Option<Token>) -> String {
    match first {
        Some(Token::Quoted(id) | Token::Word(id)) => id.strip_suffix('.').unwrap_or(&id).to_owned(),
        Some(Token::Equals | Token::Semicolon) | None => String::new(),
    }
}

fn method(clause: &[Token]) -> Option<Method> {
    match clause {
        [Token::Word(method), Token::Equals, Token::Word(result), rest @ ..] => {
            // `method/version` names the method as well.
            let name = method.split('/').next().unwrap_or_default().to_owned();
            Some(Method { name, result: result.clone(), properties: properties(rest) })
        }
        _ => None,
    }
}

fn properties(tokens: &[Token]) -> Vec<(String, String)> {
    tokens
        .windows(3)
        .filter_map(|window| match window {
            [Token::Word(name), Token::Equals, Token::Quoted(value) | Token::Word(value)] => {
                Some((name.clone(), value.clone()))
            }
            _ => None,
        })
        .collect()
}

/// The tokens between semicolons, clause by clause.
struct Clauses<'v> {
    tokens: Tokens<'v>,
    is_done: bool,
}

impl<'v> Clauses<'v> {
    const fn of(value: &'v [u8]) -> Self {
        Self { tokens: Tokens::of(value), is_done: false }
    }
}

impl Iterator for Clauses<'_> {
    type Item = Vec<Token>;

    fn next(&mut self) -> Option<Vec<Token>> {
        if self.is_done {
            return None;
        }
        let mut clause = Vec::new();
        for token in self.tokens.by_ref() {
            if token == Token::Semicolon {
                return Some(clause);
            }
            clause.push(token);
        }
        self.is_done = true;
        Some(clause)
    }
}

/// The tokens of a value, at most [`MAX_TOKENS`]. Comments are white space; an open one swallows the rest, as an open
/// string does.
struct Tokens<'v> {
    rest: &'v [u8],
    taken: usize,
}

impl<'v> Tokens<'v> {
    const fn of(value: &'v [u8]) -> Self {
        Self { rest: value, taken: 0 }
    }

    /// Whether there was more than is taken.
    const fn is_exhausted(&self) -> bool {
        self.taken > MAX_TOKENS
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        while let Some((first, after)) = self.rest.split_first() {
            self.rest = after;
            if matches!(first, b' ' | b'\t' | b'\r' | b'\n') {
                continue;
            }
            if *first == b'(' {
                self.rest = after_comment(after);
                continue;
            }
            self.taken += 1;
            if self.is_exhausted() {
                self.rest = b"";
                return None;
            }
            return Some(match first {
                b';' => Token::Semicolon,
                b'=' => Token::Equals,
                b'"' => {
                    let (text, next) = quoted(after);
                    self.rest = next;
                    Token::Quoted(text)
                }
                _ => {
                    let end = after.iter().position(|b| b" \t\r\n();=\"".contains(b)).unwrap_or(after.len());
                    let (word, next) = after.split_at_checked(end).unwrap_or((after, b""));
                    self.rest = next;
                    let word: Vec<u8> = std::iter::once(*first).chain(word.iter().copied()).collect();
                    Token::Word(String::from_utf8_lossy(&word).to_ascii_lowercase())
                }
            });
        }
        None
    }
}

fn after_comment(mut rest: &[u8]) -> &[u8] {
    let mut depth = 1_usize;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'\\' => rest = rest.get(1..).unwrap_or_default(),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    rest
}

fn quoted(mut rest: &[u8]) -> (String, &[u8]) {
    let mut text = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'"' => break,
            b'\\' => {
                if let Some((escaped, after)) = rest.split_first() {
                    text.push(*escaped);
                    rest = after;
                }
            }
            other => text.push(*other),
        }
    }
    (String::from_utf8_lossy(&text).to_ascii_lowercase(), rest)
}

/// Words, strings, `=` and `;` of one value. Real ones have some hundred.
const MAX_TOKENS: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifier_and_methods_are_read_through_comments_and_quotes() {
        let value =
            b" (hi (there)) \"MX.example.test\" 1;\r\n dkim=pass header.d=a.test; DMARC/1 = Pass (p=none)";
        let results = Results::parse(value);
        assert_eq!(results.authserv_id, "mx.example.test");
        assert!(results.says("dkim", "pass") && results.says("dmarc", "pass"));
        let (instance, results) = Results::parse_arc(b"i=2; mx.test; dmarc=pass");
        assert_eq!((instance, results.authserv_id.as_str()), (Some(2), "mx.test"));
        assert!(results.says("dmarc", "pass"));
    }

    #[test]
    fn nothing_inside_a_comment_or_a_string_is_a_result() {
        for value in [
            "mx.test; spf=fail smtp.mailfrom=\"a; dmarc=pass\"",
            "mx.test; spf=fail (; dmarc=pass)",
            "mx.test; spf=fail (\\); dmarc=pass",
            "mx.test; spf=fail reason=\"x\\\"; dmarc=pass",
            "mx.test; dmarc=\"pass\"",
            "mx.test; dmarc=fail; dmarc=pass",
            "mx.test; x.dmarc=pass",
        ] {
            assert!(!Results::parse(value.as_bytes()).says("dmarc", "pass"), "{value}");
        }
    }

    #[test]
    fn m10_a_value_of_two_thousand_tokens_is_read_and_a_longer_one_says_nothing() {
        let start = "mx.test; dmarc=pass";
        let value = |more: usize| format!("{start}{}", ";".repeat(more));
        let at_the_limit = value(MAX_TOKENS - 5);
        assert!(Results::parse(at_the_limit.as_bytes()).says("dmarc", "pass"));
        let over = Results::parse(format!("{at_the_limit};").as_bytes());
        assert_eq!((over.methods.len(), over.authserv_id.as_str()), (0, "mx.test"));
        // What stands behind the limit is not read, and may be the contrary.
        let hidden = format!("i=1; {}; dmarc=fail", value(MAX_TOKENS));
        let (instance, results) = Results::parse_arc(hidden.as_bytes());
        assert_eq!((instance, results.says("dmarc", "pass")), (Some(1), false));
    }

    #[test]
    fn m10_of_a_hostile_value_no_more_tokens_are_made_than_are_counted() {
        for piece in ["a;", ";", "=", "a=a ", "\"\"", "\"a", "(a)a", "(", "a", "\\", " ", "\r\n a=b;"] {
            let value = piece.repeat(1 << 20);
            let (mut tokens, mut octets) = (Tokens::of(value.as_bytes()), 0);
            let made = tokens.by_ref().inspect(|token| octets += text_octets(token)).count();
            assert!(made <= MAX_TOKENS && octets <= value.len(), "{piece}: {made} of {octets}");
            assert!(tokens.next().is_none() && tokens.rest.is_empty(), "{piece}: nothing is left to be read");
            assert!(Results::parse(value.as_bytes()).methods.len() <= MAX_TOKENS / 3, "{piece}");
        }
    }

    #[test]
    fn e4_for_the_identifier_nothing_behind_it_is_read() {
        for (value, expected) in [
            ("mx.test; dkim=pass", "mx.test"),
            (" (a (b)) \"MX.test.\" 1", "mx.test"),
            ("; mx.test", ""),
            ("= mx.test", ""),
            ("(open mx.test", ""),
            ("", ""),
        ] {
            assert_eq!(authserv_id(value.as_bytes()), expected, "{value}");
            assert_eq!(Results::parse(value.as_bytes()).authserv_id, expected, "{value}");
        }
        let mut tokens = Tokens::of(b"mx.test; a=b; c=d");
        assert_eq!(tokens.next(), Some(Token::Word("mx.test".to_owned())));
        assert_eq!(tokens.rest, b"; a=b; c=d");
    }

    fn text_octets(token: &Token) -> usize {
        match token {
            Token::Equals | Token::Semicolon => 0,
            Token::Quoted(text) | Token::Word(text) => text.len(),
        }
    }
}
