use leptos::prelude::*;

/// What an icon shows. Each is one path, drawn in lines; a dot is a line of no length with round ends.
#[derive(Clone, Copy, Debug)]
pub enum Glyph {
    Error,
    Done,
    Info,
    Mail,
    Computer,
    Phone,
}

impl Glyph {
    const fn drawing(self) -> (&'static str, &'static str) {
        match self {
            Self::Error => ("1.25rem", "M8.2 3h7.6L21 8.2v7.6L15.8 21H8.2L3 15.8V8.2zM12 7.5v5M12 16.2v.01"),
            Self::Done => ("1.25rem", "M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18zM8 12.2l2.8 2.8 5.2-5.4"),
            Self::Info => ("1.25rem", "M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18zM12 11v5.5M12 7.7v.01"),
            Self::Mail => ("1.5rem", "M5 5h14a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V7a2 2 0 0 1 2-2zM3.5 7l8.5 6 8.5-6"),
            Self::Computer => (
                "1.5rem",
                "M6 5h12a1.5 1.5 0 0 1 1.5 1.5v8A1.5 1.5 0 0 1 18 16H6a1.5 1.5 0 0 1-1.5-1.5v-8A1.5 1.5 0 0 1 6 5zM2 19h20",
            ),
            Self::Phone => (
                "1.5rem",
                "M8.5 2.5h7A1.5 1.5 0 0 1 17 4v16a1.5 1.5 0 0 1-1.5 1.5h-7A1.5 1.5 0 0 1 7 20V4a1.5 1.5 0 0 1 1.5-1.5zM11 18.3h2",
            ),
        }
    }
}

/// Decoration beside words that say the same, hence hidden from screen readers. Its size follows the text.
#[component]
pub fn Icon(glyph: Glyph) -> impl IntoView {
    let (size, path) = glyph.drawing();
    view! {
        <svg class="icon" viewBox="0 0 24 24" width=size height=size aria-hidden="true">
            <path d=path/>
        </svg>
    }
}
