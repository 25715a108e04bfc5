# Two commands matter: `make run` and `make test`. README.md gives the plain commands beside each.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: run test test-thorough profile test-colab fuzz reference bench sweep cluster study check-study book browser mutants lab lint lock colab

run: .venv/installed  ## execute every notebook into build/notebooks, print documented against measured, and build the web book
	$(PY) tools/run_notebooks.py
	$(PY) tools/build_book.py

test: lint  ## ruff, unit tests, and every notebook under nbval: on the real table where it is, else on the stand-in
	$(PY) tools/run_tests.py

test-thorough: lint  ## all of `make test`, further cases of the same, and notebooks on the stand-in too
	$(PY) tools/run_tests.py --thorough

profile: .venv/installed  ## where the tests' time goes, as a table, and into tests/durations.json; OPTIONS=--thorough for all of them
	$(PY) tools/profile_tests.py $(OPTIONS)

test-colab: .venv-colab/installed  ## what rests on Keras, TensorFlow or drawing, on the versions that Colab has
	.venv-colab/bin/python tools/run_tests.py tests/test_fit_optimizers.py tests/test_fit_every.py tests/test_fit_generated.py tests/test_fit_seeds_generated.py tests/test_fit_exact.py tests/test_fit_models.py tests/test_fit_losses.py tests/test_fit_state.py \
		tests/test_fit_contract.py tests/test_fit_seeds.py tests/test_fit_seeds_equality.py tests/test_fit_seeds_models.py tests/test_fit_seeds_one_by_one.py tests/test_fit_seeds_exact.py tests/test_fit_seeds_vectorised.py tests/test_ahead.py tests/test_philox.py tests/test_structure.py tests/test_self_check.py tests/test_keras_internals.py tests/test_cache.py tests/test_device.py tests/test_resume.py \
		tests/test_xla.py tests/test_helpers.py tests/test_descent.py tests/test_autodiff.py tests/test_checkpointing.py \
		tests/test_style.py tests/test_graphs.py tests/test_curvature.py tests/test_sweep.py

fuzz: .venv/installed  ## models, data and arguments drawn at random, trained by fit and by model.fit: make fuzz OPTIONS="1000 --seed 7"
	$(PY) tools/fuzz.py $(OPTIONS)

reference: .venv/installed  ## plain Keras from 40 seeds anew, for the test of distributions
	$(PY) tools/keras_reference.py

bench: .venv/installed  ## plain Keras, ours and others side by side, into build/
	$(PY) benchmarks/bench.py

sweep: .venv/installed  ## the runs behind the comparison notebooks, 200,000 and more, into data/sweep; resumable
	$(PY) tools/sweep.py

cluster: .venv/installed  ## a sweep on a Dask scheduler and two workers, all on this machine
	$(PY) tools/cluster_sweep.py

study: .venv/installed  ## make study DATA=path TARGET=column: batch size and rate for a table of your own, as an HTML report
	$(PY) tools/study.py "$(DATA)" "$(TARGET)" $(OPTIONS)

check-study: .venv/installed  ## the advice for five tables against brute force, into build/; some minutes
	$(PY) tools/check_study.py

book: .venv/installed  ## the web book of the stored notebooks, into build/book, without a network
	$(PY) tools/build_book.py

browser: .venv/browser  ## notebooks in JupyterLab, playground and web book in a real browser: CHROMIUM, the system's, or Playwright's
	$(PY) -m pytest tests/browser

mutants: .venv/mutants  ## 40 small changes of engine, statistics and claims: does a test notice each? most of an hour; resumable
	$(PY) tools/mutants.py $(OPTIONS)

lint: .venv/installed  ## ruff, on code and notebooks
	$(PY) -m ruff check . && $(PY) -m ruff format --check .

lab: .venv/installed  ## JupyterLab on the start notebook
	$(PY) -m jupyterlab notebooks/00_start_here.ipynb

colab: .venv/installed  ## make colab REPO=owner/name: write the repository's address into set-up cells and badges
	$(PY) tools/set_repository.py "$(REPO)"

lock:  ## resolve requirements.lock anew for Python 3.11 to 3.13 (needs uv)
	uv pip compile --universal --generate-hashes --python-version 3.11 --no-header --upgrade --quiet requirements.txt -o requirements.lock

.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit("Python 3.11 to 3.13 is needed, and $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

.venv/browser: .venv/installed requirements-browser.txt
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-browser.txt
	@touch $@

.venv/mutants: .venv/installed requirements-mutants.txt
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-mutants.txt
	@touch $@

.venv-colab/installed: requirements.txt requirements-train.txt requirements-cluster.txt tests/colab_versions.txt
	$(PYTHON) -m venv .venv-colab
	.venv-colab/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c tests/colab_versions.txt
	@touch $@
