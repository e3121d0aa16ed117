//! The one way by which names from models and files of strangers reach what is generated from them: C comments, Makefiles, file names.
//!
//! HTML and Markdown escape what they show where it is written (`sinter-report`); everything that a compiler, a shell or a file system
//! reads goes through [`identifier`].

/// Characters that an identifier keeps at most.
const LONGEST: usize = 64;

/// A name reduced to ASCII letters, digits, `_`, `.` and `-`; all else becomes `_`. It begins with a letter, digit or `_`, has 1 to 64
/// characters and no `..`, so it can neither end a comment nor leave a folder nor be taken for an option.
pub fn identifier(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars().take(LONGEST) {
        let kept = match c {
            '.' | '-' if out.is_empty() || out.ends_with('.') => '_',
            c if c.is_ascii_alphanumeric() || "_.-".contains(c) => c,
            _ => '_',
        };
        out.push(kept);
    }
    if out.is_empty() { "_".into() } else { out }
}

#[cfg(test)]
mod tests {
    use super::identifier;
    use proptest::prelude::*;

    #[test]
    fn hostile_names_are_harmless() {
        for (name, wanted) in [
            (r#"*\ int x = system("id"); /\*"#, "___int_x___system__id_______"),
            ("*/ */", "_____"),
            ("??/\n#include </etc/passwd>", "_____include___etc_passwd_"),
            ("../../etc/passwd", "_._.__etc_passwd"),
            ("-o/tmp/x", "_o_tmp_x"),
            ("$(rm -rf ~)`id`", "__rm_-rf____id_"),
            ("a\u{202e}b\0c", "a_b_c"),
            ("", "_"),
            ("conv1/Relu;bn.1", "conv1_Relu_bn.1"),
        ] {
            assert_eq!(identifier(name), wanted, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_else_passes(name: String) {
            let out = identifier(&name);
            prop_assert!((1..=64).contains(&out.len()) && !out.contains("..") && !out.starts_with(['.', '-']), "{out}");
            prop_assert!(out.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)), "{out}");
            prop_assert_eq!(identifier(&out), out.clone());
        }
    }
}
