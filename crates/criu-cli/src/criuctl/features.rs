//! `criuctl features`.

use std::io::stdout;
use std::process::ExitCode;

use criu::Feature;
use serde_json::{Map, Value};

use super::Global;
use super::report::{Problem, result};
use crate::output::{Table, Tone};

pub(super) fn run(global: &Global) -> Result<ExitCode, Problem> {
    let features = global.criu()?.features()?;
    let value: Map<String, Value> = Feature::ALL
        .iter()
        .map(|feature| {
            (
                feature.name().to_owned(),
                features.contains(*feature).into(),
            )
        })
        .collect();
    result(global, &Value::Object(value), || {
        let mut table = Table::default();
        for feature in Feature::ALL {
            let there = features.contains(feature);
            let (word, tone) = if there {
                ("yes", Tone::Good)
            } else {
                ("no", Tone::Warning)
            };
            let remedy = if there { "" } else { feature.remedy() };
            table.row([
                (feature.name().to_owned(), Tone::Plain),
                (word.to_owned(), tone),
                (remedy.to_owned(), Tone::Plain),
            ]);
        }
        table.render(global.color.applies_to(&stdout()))
    })?;
    Ok(ExitCode::SUCCESS)
}
