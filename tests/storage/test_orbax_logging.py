"""What Orbax logs while checkpoints are written and read."""

import helpers


def test_orbax_keeps_silent_when_all_is_well(tmp_path):
    result = helpers.run_python(
        """
        import sys, checkpoint_helpers
        from metastyle_jax.storage import theta_files
        from absl import logging
        logging.use_absl_handler()
        logging.set_verbosity(logging.INFO)
        checkpoint_helpers.save_steps(sys.argv[1] + '/checkpoints', 1, 2)
        theta_files.load_theta(sys.argv[1])
        logging.info('spoken')
        """,
        tmp_path,
    )
    # The first line is absl's, about itself.
    _, chosen, line = [x for x in result.stderr.splitlines() if x]
    assert chosen.endswith(f'θ: step 2 of {tmp_path} (latest of 2)')
    assert line.endswith('spoken')
