//! Mutations of YAML: other values, keys twice, lines that go or come again, anchors.

use arbitrary::{Result, Unstructured};

const VALUES: [&str; 24] = [
    ".inf",
    "-.inf",
    ".nan",
    "-0",
    "0",
    "-1",
    "1e400",
    "1e-400",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "null",
    "true",
    "[]",
    "{}",
    "''",
    "\"\\0\"",
    "0x7fffffffffffffff",
    "99999999999999999999%",
    "1e300 GiB",
    "&a [*a]",
    "!!binary AAAA",
    "../../../../etc/passwd",
    "{ a: { a: { a: { a: { a: 1 } } } } }",
];

pub(crate) fn mutate(text: &str, u: &mut Unstructured) -> Result<Vec<u8>> {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    for _ in 0..u.int_in_range(1..=3)? {
        if lines.is_empty() {
            break;
        }
        let i = u.choose_index(lines.len())?;
        match u.int_in_range(0..=7)? {
            0..=3 => {
                // A value of a key, in a block or in braces.
                let starts: Vec<usize> = lines[i].match_indices(": ").map(|(at, _)| at + 2).collect();
                if starts.is_empty() {
                    continue;
                }
                let from = *u.choose(&starts)?;
                let to = lines[i][from..].find([',', '}']).map_or(lines[i].len(), |n| from + n);
                lines[i].replace_range(from..to, u.choose(&VALUES)?);
            }
            4 => {
                lines.remove(i);
            }
            5 => {
                let twice = lines[i].clone();
                lines.insert(i, twice);
            }
            6 => {
                let deeper = u.int_in_range(1..=3)?;
                lines[i].insert_str(0, &" ".repeat(deeper));
            }
            _ => {
                let laughs = "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\ne: [*d, *d, *d, *d, *d, *d, *d, *d, *d]";
                lines.insert(i, laughs.into());
            }
        }
    }
    let bytes = lines.join("\n").into_bytes();
    if u.ratio(1, 5)? { crate::bytes::mutate(bytes, u) } else { Ok(bytes) }
}
