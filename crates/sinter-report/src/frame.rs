//! What all pages stand in.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::style::{CSS, SCRIPT};

/// The frame that every page shares: style and script lie within it.
pub fn frame(title: &str, body: Markup) -> String {
    frame_with(title, &html! {}, &html! { body { (body) script { (PreEscaped(SCRIPT)) } } })
}

/// The same with more in its head, and a body of its own.
pub(crate) fn frame_with(title: &str, head: &Markup, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Without an icon of its own a page asks the server for one.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(CSS)) }
                (head)
            }
            (body)
        }
    }
    .into_string()
}
