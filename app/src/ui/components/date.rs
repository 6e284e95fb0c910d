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

/// A time on a page that says that it is UTC: as short as it can be said `now`.
#[component]
pub fn Lately(at: OffsetDateTime, now: OffsetDateTime) -> impl IntoView {
    view! { <time datetime=format::machine_time(at)>{format::lately(at, now)}</time> }
}

/// As [`Lately`], of something that may not have been.
#[component]
pub fn LatelyIfEver(at: Option<OffsetDateTime>, now: OffsetDateTime) -> impl IntoView {
    at.map_or_else(|| "Never".into_any(), |at| view! { <Lately at now/> }.into_any())
}
