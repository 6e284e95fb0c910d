use leptos::prelude::*;
use time::OffsetDateTime;

use crate::words;

/// A day, for people and for machines.
#[component]
pub fn Date(at: OffsetDateTime) -> impl IntoView {
    view! { <time datetime=words::machine_date(at)>{words::date(at)}</time> }
}

/// A day and a time, for people and for machines.
#[component]
pub fn DateTime(at: OffsetDateTime) -> impl IntoView {
    view! { <time datetime=words::machine_time(at)>{words::date_time(at)}</time> }
}
