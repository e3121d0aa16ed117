//! Mutations of any bytes.

use arbitrary::{Result, Unstructured};

/// Numbers at the ends of their types, which lengths and offsets in files are.
const ENDS: [u64; 10] =
    [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff];

/// One to four changes: bits, numbers, and parts that go, come twice, or move.
pub(crate) fn mutate(mut bytes: Vec<u8>, u: &mut Unstructured) -> Result<Vec<u8>> {
    for _ in 0..u.int_in_range(1..=4)? {
        let len = bytes.len();
        if len == 0 {
            return Ok(bytes);
        }
        // Headers stand in front: half of all changes are there.
        let at = if u.ratio(1, 2)? { u.int_in_range(0..=(len - 1).min(128))? } else { u.int_in_range(0..=len - 1)? };
        match u.int_in_range(0..=6)? {
            0 => bytes[at] ^= 1 << u.int_in_range(0..=7)?,
            1 => bytes[at] = u.arbitrary()?,
            2 => {
                let width = *u.choose(&[1usize, 2, 4, 8])?;
                let end = u.choose(&ENDS)?;
                let number =
                    if u.arbitrary()? { end.to_le_bytes()[..width].to_vec() } else { end.to_be_bytes()[8 - width..].to_vec() };
                bytes[at..].iter_mut().zip(number).for_each(|(b, n)| *b = n);
            }
            3 => bytes.truncate(at),
            4 => {
                let end = (at + u.int_in_range(1..=64)?).min(len);
                bytes.drain(at..end);
            }
            5 => {
                let end = (at + u.int_in_range(1..=64)?).min(len);
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let more: Vec<u8> = (0..u.int_in_range(1..=16)?).map(|_| u.arbitrary()).collect::<Result<_>>()?;
                bytes.splice(at..at, more);
            }
        }
    }
    Ok(bytes)
}
