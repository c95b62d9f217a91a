import { CloseOutlined, PhoneOutlined } from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useLocation, useNavigate } from "react-router";
import { act, type RecordJson } from "@/api/client";
import { useText } from "@/i18n";
import { Caller } from "@/kit/caller";
import { useShortcuts } from "@/kit/keyboard";
import { firstPageQuery, useResource } from "@/kit/queries";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";

const RINGS = 'owner = me AND direction = "INBOUND" AND (state = "DIALLING" OR state = "CONNECTED")';

/** Who calls, beside whatever one does: his records and deals, until the call is over or put aside. */
export function IncomingCall() {
  const { pathname } = useLocation();
  const [aside, setAside] = useState("");
  const found = useQuery({
    ...firstPageQuery("calls", { filter: RINGS, orderBy: "startTime desc", pageSize: 1 }),
    retry: false,
  });
  const [call] = found.data?.records ?? [];
  if (!call || call.name === aside || pathname === "/call-desk") return null;
  return <Ringing key={call.name} call={call} onAside={() => setAside(call.name)} />;
}

function Ringing({ call, onAside }: { call: RecordJson; onAside: () => void }) {
  const { t, label } = useText();
  const navigate = useNavigate();
  const answer = useResource("calls").verbs.find(({ name }) => name === "answer");
  const number = String(call["fromNumber"] ?? "");
  const take = async () => {
    try {
      if (call["state"] === "DIALLING") await act(call.name, "answer", {}, call.etag, crypto.randomUUID());
      void navigate("/call-desk");
    } catch (error) {
      tell(messageOf(error), "bad");
    }
  };
  useShortcuts({ "g p": () => void take() });
  return (
    <section className="card ringing" aria-label={t("callDesk.inbound")}>
      <div className="card-head">
        <h2 role="alert">
          <PhoneOutlined aria-hidden="true" /> {t("callDesk.inbound")} {number}
        </h2>
        <span className="grow" />
        <button type="button" className="icon-button" aria-label={t("action.close")} onClick={onAside}>
          <CloseOutlined />
        </button>
      </div>
      <div className="card-body stack">
        <Caller number={number} />
        <div>
          <button type="button" className="button button-primary" onClick={() => void take()}>
            {call["state"] === "DIALLING" && answer ? label(answer.label) : t("page.callDesk")}
          </button>
        </div>
      </div>
    </section>
  );
}
