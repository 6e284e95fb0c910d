//! `/account/name`: what somebody is called. Its form stands on `/account`; this page says why a name was not taken.

use auth::account::{MAX_NAME, SetNameError};
use http::StatusCode;
use leptos::prelude::*;

use crate::{
    components::{Settings, TextField},
    form::{Form, FormError},
    gate::SignedIn,
    page::page,
    routes,
};

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    TooLong,
    NotOneLine,
}

impl NameError {
    fn text(self) -> String {
        match self {
            Self::TooLong => format!("Use {MAX_NAME} characters or fewer"),
            Self::NotOneLine => "Use one line of plain text".to_owned(),
        }
    }
}

/// `name` is what was typed.
#[component]
pub fn ChangeNamePage(email: String, name: String, error: NameError) -> impl IntoView {
    view! {
        <Settings title="Change your name" email crumb=Some("Name") error=true>
            <div class="panel">
                <form class="body" method="post" action=routes::NAME novalidate>
                    <TextField
                        id="name" label="Name" hint="Leave it empty to have none." value=name maxlength=MAX_NAME
                        error=Some(error.text())
                    />
                    <div class="row-actions">
                        <button class="button primary">"Save name"</button>
                        <a class="button" href=routes::ACCOUNT>"Cancel"</a>
                    </div>
                </form>
            </div>
        </Settings>
    }
}

/// Sets the name, or takes it away.
#[server(prefix = "", endpoint = "account/name")]
pub async fn change_name(#[server(default)] name: String) -> Result<(), FormError> {
    let form = Form::current()?;
    let SignedIn(_, authority) = form.admit(routes::ACCOUNT).await?;
    let error = match form.state.auth.set_name(&authority, &name, &form.from).await {
        Ok(()) => return form.see_other(routes::ACCOUNT),
        Err(SetNameError::TooLong) => NameError::TooLong,
        Err(SetNameError::NotOneLine) => NameError::NotOneLine,
        Err(SetNameError::Unavailable(error)) => return Err(form.fail(error.into())),
    };
    form.refuse(page(StatusCode::UNPROCESSABLE_ENTITY, || view! { <ChangeNamePage email=authority.email name error/> }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    #[test]
    fn it_says_what_is_wrong_and_keeps_what_was_typed() {
        let html =
            |error| render(move || view! { <ChangeNamePage email="mara@example.org".to_owned() name="<i>\"".to_owned() error/> });
        for (error, words) in
            [(NameError::TooLong, "Use 80 characters or fewer"), (NameError::NotOneLine, "Use one line of plain text")]
        {
            let html = html(error);
            assert!(html.contains("<title>Error: Change your name – Latchkey</title>"));
            assert!(html.contains(words), "{words}");
            assert!(html.contains(r#"action="/account/name""#));
            assert!(html.contains(r#"value="&lt;i&gt;&quot;""#) && !html.contains("<i>"));
            assert!(html.contains(r#"aria-describedby="name-hint name-error" aria-invalid="true" autofocus"#));
            assert!(html.contains(r#"<a href="/account" class="button">Cancel</a>"#));
        }
    }
}
