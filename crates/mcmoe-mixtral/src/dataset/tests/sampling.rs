use super::DatasetError;
use crate::dataset::{blocks, random_windows, split_shares, windows};

fn tokens(count: u32) -> Vec<u32> {
    (0..count).collect()
}

/// The first token of each sequence, which in [`tokens`] is its position.
fn starts(sequences: &[Vec<u32>]) -> Vec<u32> {
    sequences.iter().map(|sequence| sequence[0]).collect()
}

// The expected positions come from an independent implementation of ChaCha8 and of the documented draws.
#[test]
fn random_windows_are_fixed_by_the_seed() {
    let tokens = tokens(1000);
    let cases = [
        (0, [501, 160, 618, 117, 926, 8, 518, 817, 490, 446, 742, 61]),
        (1, [546, 613, 437, 14, 192, 86, 424, 833, 79, 35, 167, 628]),
        (u64::MAX, [955, 339, 377, 467, 797, 439, 957, 553, 325, 294, 507, 447]),
    ];
    for (seed, expected) in cases {
        let windows = random_windows(&tokens, 12, 10, seed).unwrap();
        assert_eq!(starts(&windows), expected);
        for (window, start) in windows.iter().zip(expected) {
            assert!(window.iter().copied().eq(start..start + 10));
        }
    }
}

#[test]
fn blocks_are_fixed_by_the_seed() {
    let tokens = tokens(1009);
    let cases = [
        (0, [1, 15, 44, 51, 52, 54, 88, 97]),
        (1, [6, 10, 24, 28, 34, 56, 58, 69]),
        (u64::MAX, [0, 6, 20, 39, 60, 77, 89, 92]),
    ];
    for (seed, expected) in cases {
        let blocks = blocks(&tokens, 8, 10, seed).unwrap();
        assert_eq!(starts(&blocks), expected.map(|block| 10 * block));
    }
}

#[test]
fn random_windows_reach_both_ends() {
    let windows = random_windows(&tokens(12), 200, 10, 7).unwrap();
    for start in 0..3 {
        assert!(starts(&windows).contains(&start));
    }
    assert_eq!(starts(&random_windows(&tokens(10), 3, 10, 7).unwrap()), [0, 0, 0]);
}

#[test]
fn blocks_are_in_order_and_do_not_overlap() {
    for seed in 0..50 {
        let blocks = blocks(&tokens(457), 30, 10, seed).unwrap();
        assert_eq!(blocks.len(), 30);
        assert!(starts(&blocks).is_sorted_by(|a, b| a + 10 <= *b));
        assert!(blocks.iter().all(|block| block.len() == 10 && block[9] < 450));
    }
}

#[test]
fn blocks_are_all_taken_where_there_are_too_few() {
    let expected = [vec![0, 1, 2], vec![3, 4, 5]];
    for samples in [2, 3, usize::MAX] {
        assert_eq!(blocks(&tokens(8), samples, 3, 0).unwrap(), expected);
    }
}

#[test]
fn windows_tile_the_text_from_its_start() {
    let tokens = tokens(11);
    let all: Vec<_> = windows(&tokens, 3, None).unwrap().collect();
    assert_eq!(all, [[0, 1, 2], [3, 4, 5], [6, 7, 8]]);
    let two = windows(&tokens, 3, Some(2)).unwrap();
    assert_eq!(two.len(), 2);
    assert_eq!(windows(&tokens, 11, Some(9)).unwrap().len(), 1);
}

#[test]
fn requests_that_cannot_be_met_are_refused() {
    let tokens = tokens(9);
    for seq_len in [0, 1] {
        let errors = [
            random_windows(&tokens, 1, seq_len, 0).unwrap_err(),
            blocks(&tokens, 1, seq_len, 0).unwrap_err(),
            windows(&tokens, seq_len, None).err().unwrap(),
        ];
        assert!(errors.iter().all(|e| matches!(e, DatasetError::SequenceTooShort { .. })));
    }
    let none = [
        random_windows(&tokens, 0, 2, 0).unwrap_err(),
        blocks(&tokens, 0, 2, 0).unwrap_err(),
        windows(&tokens, 2, Some(0)).err().unwrap(),
    ];
    assert!(none.iter().all(|e| matches!(e, DatasetError::NoSamples)));
    let short = [
        random_windows(&tokens, 1, 10, 0).unwrap_err(),
        blocks(&tokens, 1, 10, 0).unwrap_err(),
        windows(&tokens, 10, None).err().unwrap(),
    ];
    assert!(short.iter().all(|e| e.to_string() == "the text has 9 tokens, and 10 are needed"));
    let many = random_windows(&tokens, usize::MAX, 9, 0).unwrap_err();
    assert!(matches!(many, DatasetError::TooManyTokens { .. }));
}

#[test]
fn shares_are_nearly_equal_and_complete() {
    assert_eq!(split_shares(128, 3), [43, 43, 42]);
    assert_eq!(split_shares(2, 3), [1, 1, 0]);
    assert_eq!(split_shares(5, 0), [0; 0]);
}
