use leptos::prelude::*;

/// Where one is among the steps of a task. `current` counts from zero; those before it are done.
#[component]
pub fn Steps(names: &'static [&'static str], current: usize) -> impl IntoView {
    let steps = names.iter().zip(1..).map(|(name, number)| {
        let done = number <= current;
        view! {
            <li aria-current=(number == current + 1).then_some("step")>
                {done.then(|| view! { <span class="vh">"Done: "</span> })}
                {format!("{number}. {name}")}
            </li>
        }
    });
    view! { <ol class="steps">{steps.collect_view()}</ol> }
}
