//! Mixtral's forward pass as plain loops in `f64`, written from the method's formulas.

use std::collections::BTreeMap;

use super::weights::Weights;

/// The model.
pub(crate) struct Oracle {
    tensors: BTreeMap<String, Vec<f64>>,
    layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    experts: usize,
    window: usize,
    eps: f64,
    theta: f64,
}

/// Online dynamic pruning.
pub(crate) struct OraclePruning {
    pub(crate) thresholds: Vec<f64>,
    /// Share of protected tokens.
    pub(crate) protect: f64,
}

/// What a forward pass gives.
pub(crate) struct Run {
    /// `[tokens][vocab]`.
    pub(crate) logits: Vec<Vec<f64>>,
    /// Expert activations dropped.
    pub(crate) pruned: u64,
    /// How close the closest decision was: two router probabilities at the edge of the choice, a ratio
    /// at its threshold, the importance of the last protected token and the first unprotected one
    /// (relative). An `f32` computation may decide otherwise where this is near its rounding.
    pub(crate) closest: f64,
}

type Rows = Vec<Vec<f64>>;

impl Oracle {
    pub(crate) fn new(weights: &Weights) -> Self {
        let doubles = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect();
        let number = |key: &str| weights.config[key].as_f64().unwrap();
        assert_eq!(weights.size("num_experts_per_tok"), 2);
        Self {
            tensors: weights.tensors.iter().map(|(name, (_, v))| (name.clone(), doubles(v))).collect(),
            layers: weights.size("num_hidden_layers"),
            hidden: weights.size("hidden_size"),
            heads: weights.size("num_attention_heads"),
            kv_heads: weights.size("num_key_value_heads"),
            experts: weights.size("num_local_experts"),
            window: weights.config["sliding_window"].as_u64().map_or(usize::MAX, |window| window as usize),
            eps: number("rms_norm_eps"),
            theta: number("rope_theta"),
        }
    }

    /// The whole model on one sequence.
    pub(crate) fn forward(&self, ids: &[u32], pruning: Option<&OraclePruning>) -> Run {
        let table = &self.tensors["model.embed_tokens.weight"];
        let row = |&id: &u32| table[id as usize * self.hidden..][..self.hidden].to_vec();
        let mut stream: Rows = ids.iter().map(row).collect();
        let mut run = Run { logits: Vec::new(), pruned: 0, closest: f64::INFINITY };
        for layer in 0..self.layers {
            let received = self.attention(layer, &mut stream);
            self.experts(layer, &mut stream, &received, pruning, &mut run);
        }
        let head = &self.tensors["lm_head.weight"];
        run.logits = stream.iter().map(|t| product(head, &self.norm("model.norm", t))).collect();
        run
    }

    /// Adds attention to the stream; returns `Σ_{i≥j} A_ij` of the head-mean attention matrix for every j.
    fn attention(&self, layer: usize, stream: &mut Rows) -> Vec<f64> {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let width = self.hidden / self.heads;
        let normed: Rows = stream.iter().map(|t| self.norm(&name("input_layernorm"), t)).collect();
        let project = |part: &str| -> Rows {
            let matrix = &self.tensors[&name(&format!("self_attn.{part}.weight"))];
            normed.iter().map(|x| product(matrix, x)).collect()
        };
        let [mut queries, mut keys, values] = ["q_proj", "k_proj", "v_proj"].map(project);
        for rows in [&mut queries, &mut keys] {
            for (position, row) in rows.iter_mut().enumerate() {
                row.chunks_exact_mut(width).for_each(|head| self.rotate(head, position));
            }
        }
        let output = &self.tensors[&name("self_attn.o_proj.weight")];
        let mut received = vec![0.0; stream.len()];
        for i in 0..stream.len() {
            let visible = (i + 1).saturating_sub(self.window)..i + 1;
            let mut context = vec![0.0; self.hidden];
            for head in 0..self.heads {
                let group = head * self.kv_heads / self.heads * width;
                let query = &queries[i][head * width..][..width];
                let score = |j: usize| dot(query, &keys[j][group..][..width]) / (width as f64).sqrt();
                let weights = softmax(&visible.clone().map(score).collect::<Vec<_>>());
                for (j, weight) in visible.clone().zip(weights) {
                    received[j] += weight / self.heads as f64;
                    for (c, v) in context[head * width..][..width].iter_mut().zip(&values[j][group..]) {
                        *c += weight * v;
                    }
                }
            }
            add(&mut stream[i], 1.0, &product(output, &context));
        }
        received
    }

    /// Adds the block of experts to the stream.
    fn experts(
        &self,
        layer: usize,
        stream: &mut Rows,
        received: &[f64],
        pruning: Option<&OraclePruning>,
        run: &mut Run,
    ) {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let inputs: Rows = stream.iter().map(|t| self.norm(&name("post_attention_layernorm"), t)).collect();
        let protected = match pruning {
            Some(pruning) => protected(&inputs, received, pruning.protect, run),
            None => vec![true; stream.len()],
        };
        let gate = &self.tensors[&name("block_sparse_moe.gate.weight")];
        for ((token, x), protected) in stream.iter_mut().zip(&inputs).zip(protected) {
            let p = softmax(&product(gate, x));
            let mut order: Vec<usize> = (0..self.experts).collect();
            order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
            let (first, second) = (p[order[0]], p[order[1]]);
            run.closest = run.closest.min(second - p[order[2]]);
            let mut shares = [first / (first + second), second / (first + second)];
            if let Some(pruning) = pruning.filter(|_| !protected) {
                run.closest = run.closest.min((second / first - pruning.thresholds[layer]).abs());
                if second < pruning.thresholds[layer] * first {
                    shares = [1.0, 0.0];
                    run.pruned += 1;
                }
            }
            for (&expert, share) in order.iter().zip(shares) {
                let matrix =
                    |m: &str| &self.tensors[&name(&format!("block_sparse_moe.experts.{expert}.{m}.weight"))];
                let (up, gated) = (product(matrix("w3"), x), product(matrix("w1"), x));
                let inner: Vec<f64> =
                    gated.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                add(token, share, &product(matrix("w2"), &inner));
            }
        }
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = &self.tensors[&format!("{name}.weight")];
        let rms = (dot(x, x) / x.len() as f64 + self.eps).sqrt();
        x.iter().zip(weight).map(|(x, w)| x / rms * w).collect()
    }

    /// Turns feature i and feature i + half of a head by position · θ^(−2i/width).
    fn rotate(&self, head: &mut [f64], position: usize) {
        let half = head.len() / 2;
        for i in 0..half {
            let angle = position as f64 * self.theta.powf(-((2 * i) as f64) / head.len() as f64);
            let (a, b) = (head[i], head[i + half]);
            head[i] = a * angle.cos() - b * angle.sin();
            head[i + half] = b * angle.cos() + a * angle.sin();
        }
    }
}

/// The `ceil(share · T)` tokens of largest `‖t_j‖₁ · (1/(T−j)) · Σ_{i≥j} A_ij`.
fn protected(inputs: &[Vec<f64>], received: &[f64], share: f64, run: &mut Run) -> Vec<bool> {
    let len = inputs.len();
    let l1 = |t: &Vec<f64>| t.iter().map(|v| v.abs()).sum::<f64>();
    let importance: Vec<f64> = (0..len).map(|j| l1(&inputs[j]) * received[j] / (len - j) as f64).collect();
    // A share such as 0.02 of 250 tokens is 5, whatever the last binary digit says.
    let count = (share * len as f64 - 1e-6).ceil().max(0.0) as usize;
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_by(|&a, &b| importance[b].total_cmp(&importance[a]));
    if (1..len).contains(&count) {
        let edge = [importance[order[count - 1]], importance[order[count]]];
        run.closest = run.closest.min((edge[0] - edge[1]) / edge[0]);
    }
    (0..len).map(|j| order[..count].contains(&j)).collect()
}

fn product(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix.chunks_exact(x.len()).map(|row| dot(row, x)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, what: &[f64]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += factor * what);
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exps: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
    let total: f64 = exps.iter().sum();
    exps.iter().map(|e| e / total).collect()
}
