//! Reads Authentication-Results values (RFC 8601 section 2.2): who says it, and the result of each method. Pure.
//!
//! Promises that comments and quoted strings hide nothing and forge nothing: what stands in them is never a result.

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

impl Results {
    /// Reads the value of Authentication-Results.
    pub(super) fn parse(value: &[u8]) -> Self {
        let mut clauses = clauses(value).into_iter();
        Self { authserv_id: authserv_id(&clauses.next().unwrap_or_default()), methods: methods(clauses) }
    }

    /// Reads the value of ARC-Authentication-Results, in which `i=` stands first (RFC 8617 section 4.1.1).
    pub(super) fn parse_arc(value: &[u8]) -> (Option<usize>, Self) {
        let mut clauses = clauses(value).into_iter();
        let instance = match clauses.next().unwrap_or_default().as_slice() {
            [Token::Word(i), Token::Equals, Token::Word(number)] if i == "i" => number.parse().ok(),
            _ => None,
        };
        let rest =
            Self { authserv_id: authserv_id(&clauses.next().unwrap_or_default()), methods: methods(clauses) };
        (instance.filter(|instance| *instance > 0), rest)
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

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Equals,
    Quoted(String),
    Word(String),
}

fn authserv_id(clause: &[Token]) -> String {
    match clause.first() {
        Some(Token::Quoted(id) | Token::Word(id)) => id.strip_suffix('.').unwrap_or(id).to_owned(),
        Some(Token::Equals) | None => String::new(),
    }
}

fn methods(clauses: impl Iterator<Item = Vec<Token>>) -> Vec<Method> {
    clauses
        .filter_map(|clause| match clause.as_slice() {
            [Token::Word(method), Token::Equals, Token::Word(result), rest @ ..] => {
                // `method/version` names the method as well.
                let name = method.split('/').next().unwrap_or_default().to_owned();
                Some(Method { name, result: result.clone(), properties: properties(rest) })
            }
            _ => None,
        })
        .collect()
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

/// The tokens between semicolons. Comments are white space; an open one swallows the rest, as an open string does.
fn clauses(value: &[u8]) -> Vec<Vec<Token>> {
    let mut clauses = vec![Vec::new()];
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let token = match first {
            b';' => {
                clauses.push(Vec::new());
                continue;
            }
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            b'(' => {
                rest = after_comment(after);
                continue;
            }
            b'=' => Token::Equals,
            b'"' => {
                let (text, next) = quoted(after);
                rest = next;
                Token::Quoted(text)
            }
            _ => {
                let end = after.iter().position(|b| b" \t\r\n();=\"".contains(b)).unwrap_or(after.len());
                let (word, next) = after.split_at_checked(end).unwrap_or((after, b""));
                rest = next;
                let word: Vec<u8> = std::iter::once(*first).chain(word.iter().copied()).collect();
                Token::Word(String::from_utf8_lossy(&word).to_ascii_lowercase())
            }
        };
        if let Some(clause) = clauses.last_mut() {
            clause.push(token);
        }
    }
    clauses
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
}
