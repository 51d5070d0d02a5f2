//! Metrics as text in the OpenMetrics format, which Prometheus reads. The format is written by the crate
//! `prometheus-client`; here its families are filled from numbers that are already there.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::error::Error;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a family measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows; its name is written with `_total` at the end.
    Counter,
}

/// Numbers of one name, told apart by their labels.
#[derive(Clone, Debug)]
pub struct Family {
    /// Its name, such as `raceproof_threads`.
    pub name: String,
    /// One line for people.
    pub help: String,
    /// What it measures.
    pub kind: Kind,
    /// Labels and value of each number.
    pub numbers: Vec<(Vec<(String, String)>, f64)>,
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for family in &self.0 {
            let encoder = encoder.encode_descriptor(&family.name, &family.help, None, family.metric_type())?;
            family.encode(encoder)?;
        }
        Ok(())
    }
}

impl EncodeMetric for Family {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        for (labels, value) in &self.numbers {
            let number = |encoder: &mut MetricEncoder| match self.kind {
                Kind::Gauge => encoder.encode_gauge(value),
                Kind::Counter => encoder.encode_counter::<NoLabelSet, _, f64>(value, None),
            };
            match labels.is_empty() {
                true => number(&mut encoder)?,
                false => number(&mut encoder.encode_family(labels)?)?,
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        match self.kind {
            Kind::Gauge => MetricType::Gauge,
            Kind::Counter => MetricType::Counter,
        }
    }
}

/// The text of all families. A family of the same name as one before is left out, since readers refuse the whole text.
///
/// # Errors
/// If a name is not made of letters, digits and underscores, or a label is not.
pub fn render(families: Vec<Family>) -> Result<String, Error> {
    let mut kept: Vec<Family> = Vec::with_capacity(families.len());
    for mut family in families {
        let labels = family.numbers.iter().flat_map(|(labels, _)| labels.iter().map(|(name, _)| name));
        if let Some(odd) = std::iter::once(&family.name).chain(labels).find(|name| !is_name(name)) {
            let why = format!("`{odd}` is no name of a metric: letters, digits and `_`, not first a digit");
            return Err(Error::Refused(why));
        }
        family.help = family.help.replace(['\n', '\r', '\\'], " ");
        if family.kind == Kind::Counter {
            family.name = family.name.trim_end_matches("_total").to_owned();
        }
        if !kept.iter().any(|other| other.name == family.name) {
            kept.push(family);
        }
    }
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(kept)));
    let mut written = String::new();
    text::encode(&mut written, &registry).map_err(|cause| Error::Refused(cause.to_string()))?;
    Ok(written)
}

fn is_name(name: &str) -> bool {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(is_start) && name.chars().all(|c| is_start(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(name: &str, kind: Kind, numbers: &[(&[(&str, &str)], f64)]) -> Family {
        let owned = |labels: &[(&str, &str)]| {
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        Family {
            name: name.to_owned(),
            help: "two\nlines".to_owned(),
            kind,
            numbers: numbers.iter().map(|(labels, value)| (owned(labels), *value)).collect(),
        }
    }

    #[test]
    fn families_are_written_as_the_format_asks() {
        let text = render(vec![
            family("threads", Kind::Gauge, &[(&[], 7.0)]),
            family("requests_total", Kind::Counter, &[(&[("path", "a\"b\n")], 3.0)]),
        ])
        .unwrap();
        let expected = "# HELP threads two lines\n# TYPE threads gauge\nthreads 7.0\n\
             # HELP requests two lines\n# TYPE requests counter\n\
             requests_total{path=\"a\\\"b\\n\"} 3.0\n# EOF\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn odd_names_are_refused_and_second_families_left_out() {
        for odd in ["", "1st", "a-b", "a b", "ä"] {
            assert!(render(vec![family(odd, Kind::Gauge, &[])]).is_err(), "{odd}");
        }
        assert!(render(vec![family("a", Kind::Gauge, &[(&[("b c", "d")], 1.0)])]).is_err());
        let twice =
            render(vec![family("a", Kind::Gauge, &[(&[], 1.0)]), family("a_total", Kind::Counter, &[(&[], 2.0)])])
                .unwrap();
        assert!(!twice.contains("2.0"), "{twice}");
    }
}
