use leptos::prelude::*;

#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    /// Numbers stand under one another, at the right.
    pub number: bool,
}

impl Column {
    pub const fn text(name: &'static str) -> Self {
        Self { name, number: false }
    }

    pub const fn number(name: &'static str) -> Self {
        Self { name, number: true }
    }
}

/// Rows of cells, the first of each being its header, unless another is. Where the window is narrow, each row is a card with its cells under one
/// another: Safari then no longer takes it for a table, hence the roles. On a table of its own they would be no valid HTML; so the table is
/// one to look at, and the box around it the one that is read out.
///
/// `children` stand in its place where it has no rows.
#[component]
pub fn Table(
    label: &'static str,
    columns: &'static [Column],
    #[prop(optional)] header: usize,
    rows: Vec<Vec<AnyView>>,
    #[prop(optional)] children: Option<Children>,
) -> impl IntoView {
    if let Some(nothing) = children.filter(|_| rows.is_empty()) {
        return nothing();
    }
    let heads = columns.iter().map(|Column { name, number }| {
        if *number {
            view! { <th role="columnheader" scope="col" class="number">{*name}</th> }.into_any()
        } else {
            view! { <th role="columnheader" scope="col">{*name}</th> }.into_any()
        }
    });
    let rows = rows.into_iter().map(|cells| {
        let cells = cells.into_iter().zip(columns).enumerate().map(|(at, (cell, Column { name, number }))| {
            if at == header {
                view! { <th role="rowheader" scope="row">{cell}</th> }.into_any()
            } else if *number {
                view! { <td role="cell" data-label=*name class="number">{cell}</td> }.into_any()
            } else {
                view! { <td role="cell" data-label=*name>{cell}</td> }.into_any()
            }
        });
        view! { <tr role="row">{cells.collect_view()}</tr> }
    });
    view! {
        <div role="table" aria-label=label>
            <table role="presentation">
                <thead role="rowgroup"><tr role="row">{heads.collect_view()}</tr></thead>
                <tbody role="rowgroup">{rows.collect_view()}</tbody>
            </table>
        </div>
    }
    .into_any()
}
