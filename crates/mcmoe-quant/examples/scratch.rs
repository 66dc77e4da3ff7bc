use mcmoe_quant::*;
fn main() {
    let (rows, cols) = (64, 512);
    let mut s = 12345u64;
    let mut u = move || { s ^= s << 13; s ^= s >> 7; s ^= s << 17; (s >> 11) as f64 / (1u64 << 53) as f64 };
    let mut g = move || ((-2.0 * (u() + 1e-300).ln()).sqrt() * (6.283185307 * u()).cos()) as f32;
    let w: Vec<f32> = (0..rows * cols).map(|_| g()).collect();
    let mix: Vec<f32> = (0..cols * 64).map(|_| g()).collect();
    let mut h = Hessian::new(cols);
    for _ in 0..40 {
        let mut x = vec![0.0; 64 * cols];
        for t in 0..64 { let z: Vec<f32> = (0..64).map(|_| g()).collect();
            for c in 0..cols { x[t*cols+c] = 0.5*g() + z.iter().zip(&mix[c*64..]).map(|(a,b)| a*b).sum::<f32>() * 0.2; } }
        h.add(&x).unwrap();
    }
    let m = Matrix::new(rows, cols, &w).unwrap();
    for method in [Method::Rtn, Method::Gptq] {
        for bits in [1.0, 1.5, 2.0, 2.5, 3.0] {
            let t = std::time::Instant::now();
            let q = quantize(m, Some(&h), &QuantOptions::trellis(bits).unwrap().method(method)).unwrap();
            println!("{method:?} trellis {bits}: weight {:.5} output {:.5} stored {:.4} {:.0} ns/weight", q.report.weight_error, q.report.output_error.unwrap(), q.packed.shape().bits_per_weight(), t.elapsed().as_nanos() as f64 / w.len() as f64);
        }
        for bits in [1, 2, 3] {
            let q = quantize(m, Some(&h), &QuantOptions::new(bits).unwrap().method(method)).unwrap();
            println!("{method:?} grid {bits}: weight {:.5} output {:.5}", q.report.weight_error, q.report.output_error.unwrap());
        }
    }
}
