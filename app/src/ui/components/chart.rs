//! Charts, drawn on the server, and small pictures of numbers.
//!
//! A chart is as wide as there is room, and its text must not be stretched with it: the outer drawing has no view box and measures in
//! percent, and only a line lies in one of its own that is stretched. Each says what it shows in words, and has all its numbers in a
//! table.

use std::fmt::Write as _;

use leptos::prelude::*;

use super::{Column, Table};

/// Where the plot lies in its drawing, in percent. Left of it the numbers stand on their gridlines, below it the times.
const LEFT: f64 = 12.0;
const WIDTH: f64 = 86.0;
const TOP: f64 = 9.0;
const HEIGHT: f64 = 79.0;
/// Of a bar and the room around it.
const BAR: f64 = 0.6;
/// Gridlines that a plot has at most, besides the lowest.
const MOST_STEPS: f64 = 5.0;
const LEAST_STEPS: f64 = 3.0;
/// Times named below a plot, besides the last.
const TIMES: usize = 4;

/// One place of a line.
#[derive(Clone, Debug)]
pub struct Point {
    /// What stands below it.
    pub label: String,
    /// None where there is nothing to say: the line has a gap there.
    pub value: Option<f64>,
}

/// What the line has to stay below.
#[derive(Clone, Debug)]
pub struct Limit {
    pub value: f64,
    /// Begins with "Limit".
    pub text: String,
}

/// One place with bars upon one another, a value for each series.
#[derive(Clone, Debug)]
pub struct Bars {
    pub label: String,
    pub values: Vec<u64>,
}

/// What every chart has. All that it shows stands in a table below it.
pub struct Chart {
    /// Nobody else's on the page.
    pub id: &'static str,
    pub label: &'static str,
    /// What it has a place for: "by hour".
    pub every: &'static str,
    /// What is measured.
    pub hint: String,
    /// Why there is nothing, where there isn't.
    pub nothing: &'static str,
    /// The first one names the row.
    pub columns: &'static [Column],
    pub rows: Vec<Vec<AnyView>>,
}

/// What the gridlines stand for: round numbers around all there is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

impl Scale {
    fn around(low: f64, high: f64) -> Self {
        let mut steps =
            [1.0, 2.0, 5.0].into_iter().cycle().zip((0..60).map(|n| 10_f64.powi(n / 3))).map(|(digit, tens)| digit * tens);
        let fits = |step: &f64| (high / step).ceil() - (low / step).floor() <= MOST_STEPS;
        let step = steps.find(fits).unwrap_or(f64::MAX);
        let (mut low, mut high) = ((low / step).floor() * step, (high / step).ceil() * step);
        while high - low < LEAST_STEPS * step {
            // Down first: a share has an upper end.
            if low >= step { low -= step } else { high += step }
        }
        Self { low, high, step }
    }

    /// From the top, in percent of the plot.
    fn y(self, value: f64) -> f64 {
        (self.high - value) * 100.0 / (self.high - self.low)
    }

    fn ticks(self) -> impl Iterator<Item = f64> {
        let all = ((self.high - self.low) / self.step).round();
        (0..10).map(f64::from).take_while(move |n| *n <= all).map(move |n| self.low + self.step * n)
    }
}

fn float(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::MAX, f64::from)
}

#[expect(clippy::cast_precision_loss, reason = "counts of people who sign in, far below 2^52")]
fn number(n: u64) -> f64 {
    n as f64
}

fn percent(value: f64) -> String {
    format!("{value:.2}%")
}

/// Where the plot's percent lie in the whole drawing.
fn down(y: f64) -> String {
    percent(TOP + y * HEIGHT / 100.0)
}

/// Which of so many places are named: about as far from one another, and the last.
fn named(all: usize) -> Vec<usize> {
    let apart = (all / TIMES).max(1);
    let mut named: Vec<usize> = (0..all).step_by(apart).filter(|at| at + apart / 2 + 1 < all).collect();
    named.extend(all.checked_sub(1));
    named
}

/// A line through all places that have a value, in a square of a hundred. A place without neighbours is a point.
fn line(values: &[Option<f64>], y: impl Fn(f64) -> f64) -> String {
    let last = float(values.len().saturating_sub(1).max(1));
    let mut path = String::new();
    let mut goes_on = false;
    for (at, value) in values.iter().enumerate() {
        if let Some(value) = value {
            let (x, y) = (float(at) * 100.0 / last, y(*value));
            // A line of no length has round ends, and shows.
            let alone = !goes_on && values.get(at + 1).copied().flatten().is_none();
            let _ = write!(path, "{}{x:.2} {y:.2}{}", if goes_on { "L" } else { "M" }, if alone { "h0" } else { "" });
        }
        goes_on = value.is_some();
    }
    path
}

/// The newest value.
fn dot(values: &[Option<f64>], y: impl Fn(f64) -> f64) -> Option<String> {
    let last = float(values.len().saturating_sub(1).max(1));
    let (at, value) = values.iter().enumerate().rev().find_map(|(at, value)| Some((at, (*value)?)))?;
    Some(format!("M{:.2} {:.2}h0", float(at) * 100.0 / last, y(value)))
}

fn gridlines(scale: Scale) -> AnyView {
    scale
        .ticks()
        .map(|value| {
            let (class, y) = (if value <= scale.low { "base" } else { "grid" }, down(scale.y(value)));
            view! { <line class=class x1="0" x2="100%" y1=y.clone() y2=y/> }
        })
        .collect_view()
        .into_any()
}

/// What the gridlines stand for, on them and upon what is drawn: where room is short that begins below the numbers.
fn numbers(scale: Scale, tick: fn(f64) -> String) -> AnyView {
    scale.ticks().map(|value| view! { <text x="0" y=down(scale.y(value)) dy="-5">{tick(value)}</text> }).collect_view().into_any()
}

fn times(labels: &[String], x: impl Fn(usize) -> f64) -> AnyView {
    let named = named(labels.len());
    let before_last = named.len().checked_sub(2).filter(|at| *at > 0);
    named
        .into_iter()
        .enumerate()
        .map(|(nth, at)| {
            let last = at + 1 == labels.len();
            let (x, anchor) = if last { (100.0, "end") } else { (x(at), "middle") };
            // Its neighbour is not centred, and comes near.
            let near = (Some(nth) == before_last).then_some("near");
            view! { <text class=near x=percent(x) y="99%" text-anchor=anchor>{labels[at].clone()}</text> }
        })
        .collect_view()
        .into_any()
}

/// What there will be once there is something, and why there is nothing.
fn empty(why: &'static str, labels: &[String]) -> AnyView {
    let lines = [0.0, 100.0 / 3.0, 200.0 / 3.0, 100.0].map(|y| {
        let (class, y) = (if y < 100.0 { "grid" } else { "base" }, down(y));
        view! { <line class=class x1="0" x2="100%" y1=y.clone() y2=y/> }
    });
    let last = float(labels.len().saturating_sub(1).max(1));
    view! {
        <svg class="plot" width="100%" height="14rem" role="img" aria-label=why>
            {lines}
            <text x="50%" y=down(50.0) dy="5" text-anchor="middle">{why}</text>
            {times(labels, |at| LEFT + float(at) * WIDTH / last)}
        </svg>
    }
    .into_any()
}

/// The drawing of what there is, in its parts from back to front. `said` in words what it shows.
fn plot(Chart { id, label, every, .. }: &Chart, said: String, over: bool, parts: [AnyView; 3]) -> AnyView {
    let (name, desc) = (format!("{id}-title"), format!("{id}-desc"));
    view! {
        <svg class="plot" class:over=over width="100%" height="14rem" role="img" aria-labelledby=name aria-describedby=desc>
            <title id=name.clone()>{format!("{label}, {every}")}</title>
            <desc id=desc.clone()>{said}</desc>
            {parts}
        </svg>
    }
    .into_any()
}

/// A drawing with its heading above it and its numbers below. `beside` stands between heading and hint.
fn figure(chart: Chart, beside: AnyView, drawn: AnyView) -> AnyView {
    let Chart { label, every, hint, columns, rows, .. } = chart;
    let table = (!rows.is_empty()).then(|| {
        view! {
            <details>
                <summary>"Show as a table"<span class="vh">": "{label}</span></summary>
                <Table label columns rows/>
            </details>
        }
    });
    view! {
        <figure class="panel chart">
            <figcaption>
                <h2>{format!("{label}, {every}")}</h2>
                {beside}
                <p class="hint">{hint}</p>
            </figcaption>
            {drawn}
            {table}
        </figure>
    }
    .into_any()
}

/// "Between 2 s and 7 s", from its first place to its last.
fn from_to(what: &str, labels: &[String]) -> String {
    let end = |label: Option<&String>| label.cloned().unwrap_or_default();
    format!("{what}, from {} to {}.", end(labels.first()), end(labels.last()))
}

/// How something changes. `now` is its newest value and when that is of; `tick` says how a value is written beside a gridline, and `say` how
/// in words.
#[component]
pub fn LineChart(
    chart: Chart,
    now: Option<(String, String)>,
    points: Vec<Point>,
    tick: fn(f64) -> String,
    say: fn(f64) -> String,
    #[prop(optional_no_strip)] limit: Option<Limit>,
) -> impl IntoView {
    let now = now.map(|(value, when)| view! { <p class="now"><strong>{value}</strong>" "{when}</p> }).into_any();
    let values: Vec<Option<f64>> = points.iter().map(|point| point.value).collect();
    let known = || values.iter().copied().flatten();
    let (low, high) = (known().fold(f64::MAX, f64::min), known().fold(f64::MIN, f64::max));
    let labels: Vec<String> = points.into_iter().map(|point| point.label).collect();
    if low > high {
        let drawn = empty(chart.nothing, &labels);
        return figure(chart, now, drawn);
    }
    let limit_at = limit.as_ref().map(|limit| limit.value);
    // What has a limit is the better the nearer it is to nothing.
    let scale = limit_at.map_or_else(|| Scale::around(low, high), |limit| Scale::around(0.0, high.max(limit)));
    let said = from_to(&format!("Between {} and {}", say(low), say(high)), &labels);
    let said = limit.as_ref().map_or_else(|| said.clone(), |limit| format!("{said} {}.", limit.text));
    let limit = limit.map(|Limit { value, text }| {
        let y = down(scale.y(value));
        // The word upon the line that is measured, which may cross it.
        (
            view! { <line class="limit" x1="0" x2="100%" y1=y.clone() y2=y.clone()/> },
            view! { <text class="limit" x="100%" y=y dy="15" text-anchor="end">{text}</text> },
        )
    });
    let (limit, word) = limit.unzip();
    let over = values.last().copied().flatten().zip(limit_at).is_some_and(|(value, limit)| value > limit);
    let (path, dot) = (line(&values, |value| scale.y(value)), dot(&values, |value| scale.y(value)));
    let last = float(labels.len().saturating_sub(1).max(1));
    let shown = view! {
        <svg
            x=percent(LEFT)
            y=percent(TOP)
            width=percent(WIDTH)
            height=percent(HEIGHT)
            viewBox="0 0 100 100"
            preserveAspectRatio="none"
            aria-hidden="true"
        >
            <path class="line" d=path/>
            {dot.map(|d| view! { <path class="dot" d=d/> })}
        </svg>
    };
    let lines = view! { {gridlines(scale)}{limit} }.into_any();
    let words = view! { {word}{numbers(scale, tick)}{times(&labels, |at| LEFT + float(at) * WIDTH / last)} }.into_any();
    let drawn = plot(&chart, said, over, [lines, shown.into_any(), words]);
    figure(chart, now, drawn)
}

/// How many of each kind there were, upon one another: bars begin at 0. `names` are those of the values, the lowest first.
#[component]
pub fn BarChart(chart: Chart, names: &'static [&'static str], bars: Vec<Bars>, tick: fn(f64) -> String) -> impl IntoView {
    let legend = names.iter().zip(1..).map(|(name, nth)| {
        view! { <li><svg width=".625rem" height=".625rem" aria-hidden="true"><rect class=format!("chart-{nth}") width="100%" height="100%"/></svg>{*name}</li> }
    });
    let legend = view! { <ul class="legend">{legend.collect_view()}</ul> }.into_any();
    let most = bars.iter().map(|bar| bar.values.iter().sum::<u64>()).max().unwrap_or(0);
    let labels: Vec<String> = bars.iter().map(|bar| bar.label.clone()).collect();
    if most == 0 {
        let drawn = empty(chart.nothing, &labels);
        return figure(chart, legend, drawn);
    }
    let scale = Scale::around(0.0, number(most));
    let slot = WIDTH / float(bars.len());
    let rects = bars.into_iter().enumerate().map(|(at, bar)| {
        let x = percent(LEFT + slot * (float(at) + (1.0 - BAR) / 2.0));
        let mut below = 0;
        bar.values
            .into_iter()
            .zip(1..)
            .filter(|(value, _)| *value > 0)
            .map(|(value, nth)| {
                let (top, foot) = (scale.y(number(below + value)), scale.y(number(below)));
                below += value;
                let height = percent((foot - top) * HEIGHT / 100.0);
                view! { <rect class=format!("chart-{nth}") x=x.clone() y=down(top) width=percent(slot * BAR) height=height/> }
            })
            .collect_view()
    });
    let said = from_to(&format!("At most {}", tick(number(most))), &labels);
    let words = view! { {numbers(scale, tick)}{times(&labels, |at| LEFT + slot * (float(at) + 0.5))} }.into_any();
    let drawn = plot(&chart, said, false, [gridlines(scale), rects.collect_view().into_any(), words]);
    figure(chart, legend, drawn)
}

/// How a number came to be what it is, beside the number itself.
#[component]
pub fn Sparkline(values: Vec<Option<f64>>, #[prop(optional)] over: bool) -> impl IntoView {
    let known = || values.iter().copied().flatten();
    let (low, high) = (known().fold(f64::MAX, f64::min), known().fold(f64::MIN, f64::max));
    // Room for the stroke; what never changes lies in the middle.
    let y = |value: f64| if high > low { 90.0 - (value - low) * 80.0 / (high - low) } else { 50.0 };
    let (path, dot) = (line(&values, y), dot(&values, y));
    view! {
        <svg
            class="spark"
            class:over=over
            width="100%"
            height="36"
            viewBox="0 0 100 100"
            preserveAspectRatio="none"
            aria-hidden="true"
        >
            <path class="line" d=path/>
            {dot.map(|d| view! { <path class="dot" d=d/> })}
        </svg>
    }
}

/// So many percent of a whole, beside the number itself.
#[component]
pub fn Share(of_hundred: f64) -> impl IntoView {
    view! {
        <svg class="share" width="100%" height="6" aria-hidden="true">
            <rect class="track" width="100%" height="100%"/>
            <rect class="chart-1" width=percent(of_hundred.clamp(0.0, 100.0)) height="100%"/>
        </svg>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gridlines_are_round_numbers_around_all_there_is() {
        for (low, high, expected) in [
            (95.7, 97.1, (95.0, 98.0, 1.0)),
            (94.9, 97.1, (94.0, 98.0, 1.0)),
            (100.0, 100.0, (97.0, 100.0, 1.0)),
            (0.0, 100.0, (0.0, 100.0, 20.0)),
            (0.0, 1_880.0, (0.0, 2_000.0, 500.0)),
            (0.0, 0.0, (0.0, 3.0, 1.0)),
            (0.0, 1.0, (0.0, 3.0, 1.0)),
            (3.0, 74.0, (0.0, 80.0, 20.0)),
            (0.0, 50_000_000.0, (0.0, 50_000_000.0, 10_000_000.0)),
        ] {
            let scale = Scale::around(low, high);
            assert_eq!((scale.low, scale.high, scale.step), expected, "{low} to {high}");
            let ticks: Vec<f64> = scale.ticks().collect();
            assert_eq!((ticks[0], ticks[ticks.len() - 1]), (scale.low, scale.high));
            assert!((4..=6).contains(&ticks.len()), "{ticks:?}");
        }
    }

    #[test]
    fn a_line_has_gaps_where_there_is_nothing_and_points_where_there_is_no_neighbour() {
        let y = |value: f64| 100.0 - value;
        assert_eq!(line(&[Some(0.0), Some(50.0), Some(100.0)], y), "M0.00 100.00L50.00 50.00L100.00 0.00");
        assert_eq!(line(&[Some(0.0), None, Some(50.0), None, None], y), "M0.00 100.00h0M50.00 50.00h0");
        assert_eq!(line(&[None, Some(1.0), Some(2.0), None], y), "M33.33 99.00L66.67 98.00");
        assert_eq!(line(&[Some(7.0)], y), "M0.00 93.00h0");
        assert_eq!((line(&[None, None], y).as_str(), dot(&[None, None], y)), ("", None));
        assert_eq!(dot(&[Some(1.0), Some(2.0), None], y).as_deref(), Some("M50.00 98.00h0"), "the newest there is");
    }

    #[test]
    fn few_times_are_named_and_none_runs_into_the_last() {
        assert_eq!(named(24), [0, 6, 12, 18, 23]);
        assert_eq!(named(28), [0, 7, 14, 21, 27]);
        assert_eq!(named(30), [0, 7, 14, 21, 29]);
        assert_eq!((named(1), named(2), named(0)), (vec![0], vec![0, 1], vec![]));
    }
}
