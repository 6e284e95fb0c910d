use leptos::prelude::*;

/// What an icon shows. Each is one path, drawn in lines; a dot is a line of no length with round ends.
#[derive(Clone, Copy, Debug)]
pub enum Glyph {
    Error,
    Done,
    Info,
    Warn,
    Mail,
    Computer,
    Phone,
    Shield,
    Key,
    Open,
    Download,
}

impl Glyph {
    /// What stands for a device of this name: "Safari on iPhone".
    pub fn for_device(name: &str) -> Self {
        let in_a_pocket = ["iPhone", "Android", "iPad"].iter().any(|word| name.contains(word));
        if in_a_pocket { Self::Phone } else { Self::Computer }
    }

    const fn drawing(self) -> (&'static str, &'static str) {
        match self {
            Self::Error => ("1.25rem", "M8.2 3h7.6L21 8.2v7.6L15.8 21H8.2L3 15.8V8.2zM12 7.5v5M12 16.2v.01"),
            Self::Done => ("1.25rem", "M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18zM8 12.2l2.8 2.8 5.2-5.4"),
            Self::Info => ("1.25rem", "M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18zM12 11v5.5M12 7.7v.01"),
            Self::Warn => ("1.25rem", "M12 4l9 16H3zM12 10v4M12 17v.01"),
            Self::Mail => ("1.5rem", "M5 5h14a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V7a2 2 0 0 1 2-2zM3.5 7l8.5 6 8.5-6"),
            Self::Computer => (
                "1.5rem",
                "M6 5h12a1.5 1.5 0 0 1 1.5 1.5v8A1.5 1.5 0 0 1 18 16H6a1.5 1.5 0 0 1-1.5-1.5v-8A1.5 1.5 0 0 1 6 5zM2 19h20",
            ),
            Self::Phone => (
                "1.5rem",
                "M8.5 2.5h7A1.5 1.5 0 0 1 17 4v16a1.5 1.5 0 0 1-1.5 1.5h-7A1.5 1.5 0 0 1 7 20V4a1.5 1.5 0 0 1 1.5-1.5zM11 18.3h2",
            ),
            Self::Shield => ("1.5rem", "M12 3l7 2.5V11c0 4.6-2.9 8.2-7 10-4.1-1.8-7-5.4-7-10V5.5z"),
            Self::Key => ("1.5rem", "M7.5 8.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7zM11 12h10v3M17 12v3"),
            Self::Open => ("1.25rem", "M10 4H4v16h16v-6M14 4h6v6M20 4l-9 9"),
            Self::Download => ("1.25rem", "M12 4v11M7.5 10.5L12 15l4.5-4.5M4 20h16"),
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
