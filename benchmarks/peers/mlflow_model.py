"""MLflow: the model as MLflow stores it, for `mlflow models serve`.

    python -m benchmarks.peers.mlflow_model MODEL.joblib FOLDER

Follows "Deploy MLflow Model as a Local Inference Server" (mlflow.org/docs/latest/ml/deployment/deploy-model-locally):
the server is FastAPI on uvicorn, with a process for each core (`--workers 2`), in this environment (`--env-manager
local`).
"""

import sys

import joblib
import mlflow.sklearn

if __name__ == "__main__":
    mlflow.sklearn.save_model(joblib.load(sys.argv[1]), sys.argv[2], serialization_format="cloudpickle")
