//! Words for a shell.

/// The word in single quotes, safe for any POSIX shell.
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn a_quoted_word_stays_one_word_whatever_is_in_it() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("$x;'"), r"'$x;'\'''");
        assert_eq!(quote(""), "''");
    }
}
