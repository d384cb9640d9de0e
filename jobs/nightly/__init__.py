"""The nightly job plans the days, runs its stages in order, gates the candidate and publishes it.

```
<run.dir>/<run.name>/
  nights/2017-10-09/       one nightly run: plan.json, stages.json, verdict.json, night.json,
    train/ evaluation/     night.html, the training run, the reports, the artefact, logs/
  published/current        link to the nightly run whose model is in use
  published/history.json   what was published and rolled back, and when
```
"""
