/// Charges one try before anything is compared, so that no number of parallel guesses gets more than five looks. `None`: no try is left,
/// or the code died meanwhile. Else the tries spent, this one included. `$open`: what says that it is neither used nor closed.
macro_rules! charge_try {
    ($table:literal, $open:literal, $pool:expr, $id:expr, $now:expr) => {
        sqlx::query_scalar!(
            "update "
                + $table
                + " set attempts = attempts + 1 where id = $1 and attempts < $2 and expires_at > $3 and "
                + $open
                + " returning attempts",
            $id,
            i16::try_from($crate::policy::CODE_TRIES).expect("a handful"),
            $now,
        )
        .fetch_optional($pool)
        .await
        .map(|attempts| attempts.map(|spent| u32::from(spent.unsigned_abs())))
    };
}
