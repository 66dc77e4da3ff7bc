//! scratch
mod common;
use common::compression::run;
use common::fixture;
use mcmoe_mixtral::calibrate::Calibration;
use mcmoe_mixtral::compress::{CompressOptions, SizeGoal};
use mcmoe_mixtral::evaluate::{EvalOptions, perplexity};
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::{CpuBackend, Exponents, Method, Mode, Silent, Tokenizer};
use std::fs;

#[test]
fn scratch() {
    let model = fixture(&std::env::var("MODEL").unwrap()).unwrap();
    let train = fixture("wikitext-2/train.txt").unwrap();
    let cal = |seed| {
        Calibration::new(format!("wikitext2:{}", train.display()).parse().unwrap())
            .samples(128)
            .seq_len(256)
            .seed(seed)
    };
    let text = fs::read_to_string(fixture("wikitext-2/test.txt").unwrap()).unwrap();
    let tokens = Tokenizer::read(&model).unwrap().encode(&text).unwrap();
    let base = |bits: f64| CompressOptions::default().size(SizeGoal::ExpertBits(bits)).calibration(cal(0));
    let mut list: Vec<(String, CompressOptions)> = vec![];
    for bits in [2.0, 3.0] {
        for method in [Method::Gptq, Method::Rtn, Method::Hqq] {
            list.push((format!("uniform {bits} {method:?}"), base(bits).mode(Mode::Uniform).method(method)));
        }
    }
    list.push(("uniform 1 gptq".into(), base(1.0).mode(Mode::Uniform)));
    list.push(("2.5 gptq".into(), base(2.5)));
    let mut o = base(2.5);
    o.exponents = Exponents::paper();
    list.push(("2.5 gptq paper exponents".into(), o));
    let mut o = base(2.5);
    o.attention_bits = 8;
    list.push(("2.5 gptq attention 8".into(), o));
    list.push(("2.5 rtn".into(), base(2.5).method(Method::Rtn)));
    list.push(("2.5 gptq seed 1".into(), base(2.5).calibration(cal(1))));
    list.push(("2.5 random".into(), base(2.5).mode(Mode::Random)));
    for (name, options) in list {
        let (dir, _) = run(&model, &options);
        let folder = ModelFolder::open(dir.path()).unwrap();
        let m = folder.model::<CpuBackend>(&Default::default()).unwrap();
        let p = perplexity(&m, &tokens, &EvalOptions::new(256).windows(Some(256)), &Silent).unwrap();
        println!("{name}: {:.4} {:?}", p.perplexity, folder.compression().unwrap().allocation.bits);
    }
}
