"""The nightly job: which days, its stages one after the other, the gate, and what is published.

```
<run.dir>/<run.name>/
  nights/2017-10-09/       one night: plan.json, stages.json, verdict.json, night.json and .html,
    train/ evaluation/     the run, the reports, the artefact, logs/
  published/current        link to the night whose model is in use
  published/history.json   what was published and rolled back, and when
```
"""
