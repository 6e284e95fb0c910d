//! What most pages import: whose session it is, how to answer, and the pieces to draw with.
//! Nothing that one page alone needs, and nothing of `auth`: rules are imported by name.
//! To add a name: once many pages import it.

pub use axum::{
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
pub use http::StatusCode;
pub use leptos::prelude::*;
pub use time::OffsetDateTime;

pub use crate::{
    help,
    http::{
        access::{AccessDenied, Administrator, Enrolling, PendingSecondFactor, Public, SignedIn, Visitor, require_fresh},
        error::{Answer, Refusal, ServiceError},
        form::{Form, FormPost},
        render::{page, see_other},
        return_to::{self, NextQuery},
        session::{self, BrowserSession},
        state::AppState,
    },
    routes,
    ui::{
        components::{
            Admin, Article, Ask, BackupCodeField, Badge, BadgeKind, Beside, Checkbox, CodeField, Column, CopyBlock, Date, DateTime,
            EmailField, Empty, ErrorSummary, ErrorText, Flow, Glyph, Icon, Lately, LatelyIfEver, Masked, NewerOlder, Notice, Pager,
            PostButton, ReasonField, Row, SearchField, SelectField, Settings, Steps, Table, Tabs, TextField, Tone,
        },
        format::{self, MaskedAddress},
    },
};
