//! The trace: which rule said what, in the order they spoke.

use std::borrow::Cow;

/// One rule that spoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The number in RULES, such as `R20`; or the name of the part that spoke, such as `SMTP`.
    pub rule: &'static str,
    /// A sentence that a person understands without the code.
    pub said: Cow<'static, str>,
    /// Microseconds it took; zero for the rules, which are too fast to measure one by one.
    pub took_us: u64,
}

/// The steps of one decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// In order.
    pub steps: Vec<Step>,
}

impl Trace {
    /// Adds what a rule said.
    pub fn say(&mut self, rule: &'static str, said: impl Into<Cow<'static, str>>) {
        self.steps.push(Step { rule, said: said.into(), took_us: 0 });
    }

    /// R5: a discarded message leaves no address behind; each word that holds one is replaced.
    pub fn leave_out_addresses(&mut self) {
        for step in &mut self.steps {
            if step.said.contains('@') {
                let words =
                    step.said.split(' ').map(|word| if word.contains('@') { "(address)" } else { word });
                step.said = words.collect::<Vec<_>>().join(" ").into();
            }
        }
    }
}
