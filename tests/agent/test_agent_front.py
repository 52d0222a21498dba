"""The whole product with nginx between agent and server (docs/nginx.conf)."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_agent_e2e import KEYS, Factory, agent

sys.path.append(str(Path(__file__).parents[1] / "server"))

import fronts

pytestmark = pytest.mark.slow


class FrontedFactory(Factory):
    """Its devices know nginx's address alone."""

    def configure(self):
        place = self.folder / "f.sock"
        config = self.data / "config.json"
        front = {"front": str(place), "front_user": fronts.ME, "front_files": fronts.FILES}
        config.write_text(json.dumps(json.loads(config.read_text()) | front))
        files = self.data / "artifacts"
        self.nginx = fronts.Nginx(SimpleNamespace(folder=KEYS), self.folder / "nginx", place, files).start()

    def close(self):
        super().close()
        assert self.nginx.stop() == []


def test_device_behind_nginx_is_updated(tmp_path):
    if shutil.which("arm-none-eabi-gcc") is None or fronts.NGINX is None:
        pytest.skip("no arm-none-eabi-gcc, or no nginx: 'make oracles' brings the latter")
    factory = FrontedFactory(tmp_path)
    try:
        factory.device_url = f"https://127.0.0.1:{factory.nginx.port}"
        path, device = factory.device(factory.image("1.0.0", 1))
        factory.publish("1.0.0", 1, 1)
        state = agent(path, "--until-idle")
        assert (state["version"], state["state"], state["settled"]) == ("1.0.0", "confirmed", True)
        factory.publish("1.1.0", 1, 2)
        factory.operate("rollout", "start", "1.1.0", "--device", device)
        state = agent(path, "--until-confirmed")
        assert (state["slot"], state["version"], state["state"]) == ("B", "1.1.0", "confirmed")
        shown = json.loads(factory.operate("device", "show", device, "--json"))
        assert (shown["refused_report"], shown["refusals"]) == (None, [])
        assert "1.1.0" in json.dumps(shown["confirmed"])
    finally:
        factory.close()
