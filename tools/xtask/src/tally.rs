//! Counting what passed and what failed, in the words of cargo's test harness and of the VM suites.
//!
//! Pure: text in, numbers out.

use std::fmt;

/// Cases that passed, and a line for each one that did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    passed: u64,
    failed: u64,
    failures: Vec<String>,
}

impl Tally {
    /// One case passed.
    pub fn pass(&mut self) {
        self.passed += 1;
    }

    /// One case failed; `what` names it and says why.
    pub fn fail(&mut self, what: impl Into<String>) {
        self.failed += 1;
        self.failures.push(what.into());
    }

    /// Whether nothing at all was counted.
    pub fn is_empty(&self) -> bool {
        self.passed == 0 && self.failed == 0
    }

    /// Whether everything counted passed.
    pub fn is_clean(&self) -> bool {
        self.failed == 0
    }

    /// How many passed.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// A line for each failure; summaries of cargo count failures without naming them here.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Adds another tally to this one.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
    }

    /// Counts one line of cargo's test harness. `test result: ok. 25 passed; 0 failed; ...` closes each test program, and
    /// `test NAME ... FAILED` or `    NAME` tell no more than it does.
    pub fn read_cargo(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result: ") else {
            return;
        };
        let numbers = |word: &str| {
            let part = result.split([';', '.']).map(str::trim).find_map(|part| part.strip_suffix(word));
            part.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        self.passed += numbers("passed");
        let failed = numbers("failed");
        self.failed += failed;
        if failed > 0 {
            self.failures.push(format!("{failed} of cargo's tests (named above)"));
        }
    }

    /// Counts one line of the VM suite `suite`: `ok NAME` or `not ok NAME: reason`; any other line is talk.
    pub fn read_suite(&mut self, suite: &str, line: &str) -> Line {
        let line = line.trim_end();
        if let Some(what) = line.strip_prefix("not ok ") {
            self.fail(format!("{suite}: {what}"));
            return Line::Case;
        }
        match line.strip_prefix("ok ") {
            Some(name) if !name.trim().is_empty() => {
                self.pass();
                Line::Case
            }
            Some(_) | None => Line::Talk,
        }
    }
}

/// What a line of a suite is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// The verdict on a case.
    Case,
    /// Anything else.
    Talk,
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
