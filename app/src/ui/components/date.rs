use leptos::prelude::*;
use time::OffsetDateTime;

use crate::ui::format;

/// A day, for people and for machines.
#[component]
pub fn Date(at: OffsetDateTime) -> impl IntoView {
    view! { <time datetime=format::machine_date(at)>{format::date(at)}</time> }
}

/// A day and a time, for people and for machines.
#[component]
pub fn DateTime(at: OffsetDateTime) -> impl IntoView {
    view! { <time datetime=format::machine_time(at)>{format::date_time(at)}</time> }
}
