import { EnvironmentOutlined } from "@ant-design/icons";
import { Input, Modal } from "antd";
import { useState } from "react";
import { act, type Json, type RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { GenericRecord } from "@/kit/generic-record";
import { useResource, useSession } from "@/kit/queries";
import { useStored } from "@/kit/stored";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";

const PATIENCE_MS = 15_000;

/** A visit that one checks in to on the spot; a phone that knows no place asks why. */
export function VisitPage({ name }: { name: string }) {
  const resource = useResource("visits");
  return <GenericRecord resource={resource} name={name} banner={(record) => <CheckIn record={record} />} />;
}

const here = () =>
  new Promise<GeolocationPosition>((resolve, reject) =>
    navigator.geolocation.getCurrentPosition(resolve, reject, {
      enableHighAccuracy: true,
      timeout: PATIENCE_MS,
      maximumAge: 0,
    }),
  );

function CheckIn({ record }: { record: RecordJson }) {
  const { t, comma } = useText();
  const session = useSession();
  const verb = useResource("visits").verbs.find(({ name }) => name === "checkIn");
  const [device] = useStored("device", crypto.randomUUID());
  const [busy, setBusy] = useState(false);
  const [why, setWhy] = useState<string>();
  const stamp = record["checkIn"] as { distance?: number; flags?: string[] } | undefined;
  const flags = stamp?.flags ?? [];

  const send = async (body: Json) => {
    try {
      await act(
        record.name,
        "checkIn",
        { device, deviceTime: new Date().toISOString(), ...body },
        record.etag,
      );
      tell(t("visit.checkedIn"));
      setWhy(undefined);
    } catch (error) {
      tell(messageOf(error), "bad");
    }
  };
  const checkIn = async () => {
    setBusy(true);
    const place = await here().catch(() => undefined);
    if (place)
      await send({
        position: { latitude: place.coords.latitude, longitude: place.coords.longitude },
        accuracy: Math.round(place.coords.accuracy),
      });
    else setWhy("");
    setBusy(false);
  };

  if (flags.length > 0)
    return (
      <p className="banner">
        {flags.map((flag) => t(`visit.flag.${flag}`, { defaultValue: flag })).join(comma)}
        {stamp?.distance !== undefined && ` · ${t("visit.distance", { metres: stamp.distance })}`}
      </p>
    );
  if (record["state"] !== "PLANNED" || !verb || !may(session, verb.permission)) return null;
  return (
    <>
      <button
        type="button"
        className="button button-primary visit-check-in"
        disabled={busy}
        onClick={() => void checkIn()}
      >
        <EnvironmentOutlined aria-hidden="true" /> {t(busy ? "visit.locating" : "visit.checkIn")}
      </button>
      {why !== undefined && (
        <Modal
          open
          title={t("visit.noPosition")}
          okText={t("visit.checkIn")}
          cancelText={t("action.cancel")}
          okButtonProps={{ disabled: why.trim() === "" }}
          onOk={() => void send({ noPositionReason: why.trim() })}
          onCancel={() => setWhy(undefined)}
        >
          <div className="form-field">
            <label htmlFor="visit-why">{t("visit.noPositionText")}</label>
            <Input
              id="visit-why"
              value={why}
              maxLength={200}
              onChange={(event) => setWhy(event.target.value)}
            />
          </div>
        </Modal>
      )}
    </>
  );
}
