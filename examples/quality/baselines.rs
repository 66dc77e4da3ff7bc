//! `baselines.json`: what other systems reach on the same weights and text.

use std::path::Path;

use serde_json::Value;

use crate::files;
use crate::points::{Point, Pruned};
use crate::systems;

/// Groups of this name are of another model.
const OTHER_MODEL: &str = "demo_mixtral";

/// Other systems' points.
#[derive(Debug)]
pub(crate) struct Baselines {
    /// Perplexity of the 16-bit model on WikiText-2.
    pub(crate) dense: f64,
    pub(crate) points: Vec<Point>,
}

impl Baselines {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        Self::parse(&files::read(path)?).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Every group's points that have stored bits and a perplexity.
    fn parse(text: &str) -> Result<Self, String> {
        let file: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let dense = file["fp16_perplexity"].as_f64().ok_or("fp16_perplexity is missing")?;
        let groups = file.as_object().ok_or("not an object")?;
        let mut points = Vec::new();
        for (group, content) in groups.iter().filter(|(group, _)| !group.starts_with(OTHER_MODEL)) {
            let plain: Vec<Point> = list(&content["points"]).filter_map(|p| point(group, p)).collect();
            let pruned = list(&content["online_dynamic_pruning"]).filter_map(|p| pruned(&plain, p));
            let pruned: Vec<Point> = pruned.collect();
            points.extend(plain.into_iter().chain(pruned));
        }
        Ok(Self { dense, points })
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A point of `group`, if it has stored bits and a perplexity.
fn point(group: &str, value: &Value) -> Option<Point> {
    let name = value["name"].as_str()?;
    let (bpw, perplexity) = (value["bpw"].as_f64()?, value["perplexity"].as_f64()?);
    let (system, setting) = match (group, name) {
        ("mc_moe", name) => match name.strip_prefix("uniform ") {
            Some(width) => (systems::MC_MOE_UNIFORM, width),
            None => (systems::MC_MOE, name),
        },
        ("llama_cpp", name) if name.starts_with("IQ") => (systems::LLAMA_I, name),
        ("llama_cpp", name) => (systems::LLAMA_K, name),
        ("hqq", name) => (systems::HQQ, name),
        other => other,
    };
    let point = Point::new(system, setting, bpw, perplexity);
    Some(Point { calibrated: point.calibrated.filter(|_| group != "hqq"), ..point })
}

/// The point of `plain` with pruning, named as `16 (2.0 bit), RULE` or `16, RULE`.
fn pruned(plain: &[Point], value: &Value) -> Option<Point> {
    let (name, rule) = value["name"].as_str()?.rsplit_once(", ")?;
    let first = |name: &str| name.split(' ').next().map(str::to_owned);
    let plain = plain.iter().find(|point| first(&point.setting) == first(name))?;
    let pruning = Pruned { rule: rule.to_owned(), share: value["pruned_expert_activations"].as_f64()? };
    let perplexity = value["perplexity"].as_f64()?;
    Some(Point { pruning: Some(pruning), perplexity, ..plain.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
        "protocol": "as measured", "fp16_perplexity": 20.0,
        "mc_moe": {
            "points": [
                {"name": "16 (2.0 bit)", "bpw": 2.25, "perplexity": 23.5},
                {"name": "uniform 2 bit", "bpw": 2.25, "perplexity": 22.1}
            ],
            "online_dynamic_pruning": [
                {"name": "16, 2% protected", "perplexity": 23.8, "pruned_expert_activations": 0.24}
            ]
        },
        "llama_cpp": {"points": [
            {"name": "IQ1_S", "bpw": 1.5625, "perplexity": 22.4},
            {"name": "Q2_K", "bpw": 2.625, "perplexity": 21.1}
        ]},
        "llama_cpp_speed": {"points": [{"name": "Q4_0", "bpw": 4.5, "read_share": 0.94}]},
        "demo_mixtral_mc_moe": {"points": [{"name": "16", "bpw": 2.25, "perplexity": 31.4}]},
        "new": {"points": [{"name": "a", "bpw": 2.0, "perplexity": 21.0}]}
    }"#;

    #[test]
    fn groups_become_systems() {
        let Baselines { dense, points } = Baselines::parse(FILE).unwrap();
        assert_eq!(dense, 20.0);
        let find = |system: &str| points.iter().filter(|p| p.system == system).collect::<Vec<_>>();
        assert_eq!(points.len(), 6);
        assert_eq!(find(systems::MC_MOE_UNIFORM)[0].setting, "2 bit");
        assert_eq!(find(systems::LLAMA_I)[0].setting, "IQ1_S");
        assert_eq!(find(systems::LLAMA_K)[0].bpw, 2.625);
        assert_eq!(find("new")[0].perplexity, 21.0);
        let pruned = find(systems::MC_MOE)[1];
        assert_eq!((pruned.setting.as_str(), pruned.bpw), ("16 (2.0 bit)", 2.25));
        assert_eq!(pruned.pruning, Some(Pruned { rule: "2% protected".to_owned(), share: 0.24 }));
    }

    #[test]
    fn other_files_are_refused() {
        assert!(Baselines::parse("{}").unwrap_err().contains("fp16_perplexity"));
        assert!(Baselines::parse("[").is_err());
    }
}
