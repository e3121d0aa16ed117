//! Tables that are wider than a screen.

use maud::{Markup, html};

/// A table that scrolls within itself where it is too wide.
pub(crate) fn scroll(label: &str, table: &Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(label) { (table) } }
}
