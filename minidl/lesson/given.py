"""The functions and classes that each lesson gives: a search for what is wrong leaves them alone."""

from __future__ import annotations

GIVEN: dict[str, frozenset[str]] = {
    number: frozenset(names.split())
    for number, names in {
        "01": "LedgerArray ledger_function milliseconds naive_statistics named on_both values_and_strides",
        "02": "ReLU errors flattened named own_network package_network play_loss three_steps two_halves",
        "03": "constant_statistics error_at largest pattern planted verdict verdicts",
        "04": "Conv Pool columns overwritten package_backward package_pool pooled seven_loops",
        "05": "dx_at mean mistake per_channel training_formula",
        "06": (
            "FastBatchNorm MendedBatchNorm TwoPassBatchNorm both centre_in_float64 forward one_pass summary "
            "two_pass welford"
        ),
        "07": (
            "by_name channels each norm_backward pytorch reference_norms scale_and_shift set_mean shift_forgotten "
            "without_spread"
        ),
        "08": "bell by_definition gated_input mixed_first near_and_far over_the_batch per_channel strongest_mode",
        "09": (
            "algorithm_1 central complex_step error imaginary loss milliseconds numeric package steps_1_to_3 "
            "steps_4_to_6 steps_7_and_8 to_the_letter wide with_empty without y_of"
        ),
        "10": "both by_search complex_step gated log_softmax map_moments maps minidl_backward read_off",
        "11": (
            "batches examined five_updates in_mode never_cleared never_stepped normal_guess of_the_mean one_by_one "
            "package_interval right trainer with_half with_the_package with_your_step"
        ),
        "12": "gates_of_test_images normalised package_information plain start train",
        "13": "AllMended BatchNorm2d TwoMended agrees dx_of mended played stand_in two_mends usual_tests",
        "14": (
            "Written all_cases by_formula exact gathered launch of_each one_sender one_step played reads_of "
            "rounds run_col2im run_relu schedule shared_out"
        ),
        "15": (
            "Watched all_of compensated drifting filled in_blocks in_three loop measured of_its_dtype of_sums of_tasks "
            "plain_sum result rule seconds started summed with_rest"
        ),
        "16": (
            "between branch branch_gradient counted drawn forward linear network norm_channels other_channels "
            "part plain played profile residual trained"
        ),
        "17": "WaitsError Wire added of_parts on_three reduced right_ones send slope",
    }.items()
}
