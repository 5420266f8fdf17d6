//! Regular expressions over topic names, with the meaning of RE2 (KIP-848): the whole name must
//! match, and matching takes time linear in the name.
//!
//! The engine's syntax is RE2's but for a few places; those are rewritten here: quoting with
//! `\Q…\E`, and what the engine would read as operations on character classes (`&&`, `--`, `~~`,
//! an inner `[`).

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::TopicCatalog;

/// Most bytes that a compiled expression may take.
const SIZE_LIMIT_BYTES: usize = 1 << 20;

/// A compiled expression.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// Compiles an expression; an error says what is wrong with it.
    pub(crate) fn compile(expression: &str) -> Result<Self, String> {
        let translated = translate(expression);
        // Compiled alone first: unbalanced parentheses must not pass because of those around it.
        let compile = |text: &str| {
            RegexBuilder::new(text)
                .size_limit(SIZE_LIMIT_BYTES)
                .build()
                .map_err(|error| reason(&error))
        };
        compile(&translated)?;
        compile(&format!(r"\A(?:{translated})\z")).map(Self)
    }

    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.0.is_match(topic)
    }

    /// The topics of the catalog that match.
    pub(crate) fn resolve(&self, catalog: &dyn TopicCatalog, now_ms: i64) -> Resolved {
        let mut topics: BTreeSet<Box<str>> = BTreeSet::new();
        catalog.each_name(&mut |name| {
            if self.matches(name) {
                topics.insert(name.into());
            }
        });
        Resolved {
            topics: Arc::new(topics),
            version: catalog.version(),
            timestamp_ms: now_ms,
        }
    }
}

/// What is wrong, without the drawing of where.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// What an expression matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    topics: Arc<BTreeSet<Box<str>>>,
    pub(crate) version: u64,
    pub(crate) timestamp_ms: i64,
}

impl Resolved {
    pub(crate) fn new(topics: impl IntoIterator<Item = String>, version: u64, at_ms: i64) -> Self {
        Self {
            topics: Arc::new(topics.into_iter().map(String::into_boxed_str).collect()),
            version,
            timestamp_ms: at_ms,
        }
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(|topic| &**topic)
    }

    pub(crate) fn has(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }

    pub(crate) fn same_topics(&self, other: &Self) -> bool {
        self.topics == other.topics
    }
}

/// From RE2's syntax to the engine's.
fn translate(expression: &str) -> String {
    let mut out = String::with_capacity(expression.len() + 8);
    let mut rest = expression.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('Q') => quote(&mut rest, &mut out),
                Some(escaped) => out.extend(['\\', escaped]),
                None => out.push('\\'),
            },
            '[' => class(&mut rest, &mut out),
            _ => out.push(c),
        }
    }
    out
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Everything up to `\E`, or to the end, stands for itself.
fn quote(rest: &mut Chars<'_>, out: &mut String) {
    let mut quoted = String::new();
    while let Some(c) = rest.next() {
        if c == '\\' && rest.peek() == Some(&'E') {
            rest.next();
            break;
        }
        quoted.push(c);
    }
    out.push_str(&regex::escape(&quoted));
}

/// A character class, behind its `[`. Named classes (`[:alpha:]`) stay; other signs that mean
/// something to the engine only stand for themselves.
fn class(rest: &mut Chars<'_>, out: &mut String) {
    out.push('[');
    if rest.peek() == Some(&'^') {
        out.extend(rest.next());
    }
    if rest.peek() == Some(&']') {
        // The first one does not end the class.
        rest.next();
        out.push_str(r"\]");
    }
    while let Some(c) = rest.next() {
        match c {
            ']' => {
                out.push(']');
                return;
            }
            '\\' => out.extend(std::iter::once('\\').chain(rest.next())),
            '[' if rest.peek() == Some(&':') => {
                out.push('[');
                for named in rest.by_ref() {
                    out.push(named);
                    if named == ']' {
                        break;
                    }
                }
            }
            '[' | '&' | '~' => out.extend(['\\', c]),
            '-' if rest.peek() == Some(&'-') => out.push_str(r"\-"),
            _ => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn matches(expression: &str, topic: &str) -> bool {
        Pattern::compile(expression)
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
            .matches(topic)
    }

    #[test]
    fn the_whole_name_must_match() {
        assert!(matches("foo.*", "foo-bar"));
        assert!(!matches("foo", "foo-bar"));
        assert!(!matches("bar", "foo-bar"));
        assert!(matches("a|b", "b"));
        assert!(!matches("a|b", "bc"));
        assert!(matches("", ""));
    }

    #[test]
    fn quotes_and_classes_mean_what_re2_means() {
        assert!(matches(r"\Qa.b\E+", "a.bbb"));
        assert!(!matches(r"\Qa.b\E", "axb"));
        assert!(matches(r"\Qa.b", "a.b"));
        assert!(matches("[a&&b]+", "a&b"));
        assert!(matches("[[:digit:]-]+", "1-2"));
        assert!(matches("[[a]+", "[a"));
        assert!(matches("[]a]+", "]a"));
        assert!(matches("[^~~x]+", "abc"));
        assert!(matches(r"[\w.]+", "a.b"));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for bad in [
            "(",
            ")",
            "a)(b",
            "[",
            "*",
            "a{2,1}",
            r"\",
            "(?P<n",
            "x{1000}{1000}",
        ] {
            assert!(Pattern::compile(bad).is_err(), "{bad}");
        }
        // RE2 has neither back references nor looking around.
        assert!(Pattern::compile(r"(a)\1").is_err());
        assert!(Pattern::compile("(?=a)").is_err());
    }
}
