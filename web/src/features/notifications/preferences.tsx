import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Modal } from "antd";
import { useState, type FormEvent } from "react";
import { request } from "@/api/client";
import { useText } from "@/i18n";
import { ClockInput } from "@/kit/clock-input";
import { firstPageQuery } from "@/kit/queries";
import { Loaded } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";

const WAYS = ["MAIL", "SMS", "PUSH", "CHAT_BOT"];
const KINDS = ["task", "calendar", "reminder", "rule", "approval", "account", "sea", "sla", "ticket", "mail"];

interface Wish {
  quietFrom: string;
  quietTo: string;
  workingDaysOnly: boolean;
  digest: boolean;
  digestClock: string;
  channels: string[];
  mutedKinds: string[];
}

/** How the person wants to be told: hours, ways, and kinds that are not wanted. */
export function Preferences({ onClose }: { onClose: () => void }) {
  const { t } = useText();
  const found = useQuery(firstPageQuery("notificationPreferences", { pageSize: 1 }));
  return (
    <Modal open title={t("notifications.preferences")} onCancel={onClose} footer={null}>
      <Loaded query={found}>
        {({ records }) => <PreferenceForm known={records[0] ?? {}} onClose={onClose} />}
      </Loaded>
    </Modal>
  );
}

function PreferenceForm({ known, onClose }: { known: Record<string, unknown>; onClose: () => void }) {
  const { t } = useText();
  const client = useQueryClient();
  const [busy, setBusy] = useState(false);
  const [wish, setWish] = useState<Wish>({
    quietFrom: String(known["quietFrom"] ?? ""),
    quietTo: String(known["quietTo"] ?? ""),
    workingDaysOnly: known["workingDaysOnly"] === true,
    digest: known["digest"] === true,
    digestClock: String(known["digestClock"] ?? ""),
    channels: (known["channels"] as string[] | undefined) ?? [],
    mutedKinds: (known["mutedKinds"] as string[] | undefined) ?? [],
  });
  const change = (part: Partial<Wish>) => setWish({ ...wish, ...part });
  const toggled = (list: string[], key: string) =>
    list.includes(key) ? list.filter((one) => one !== key) : [...list, key];

  const save = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    try {
      await request("/v1/notificationPreferences:set", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(wish),
      });
      await client.invalidateQueries({ queryKey: ["list", "notificationPreferences"] });
      onClose();
    } catch (error) {
      tell(messageOf(error), "bad");
    } finally {
      setBusy(false);
    }
  };

  return (
    <form className="stack" onSubmit={(event) => void save(event)}>
      <fieldset>
        <legend>{t("notifications.wish.quiet")}</legend>
        <div className="row">
          <ClockInput
            label={t("notifications.wish.from")}
            value={wish.quietFrom}
            onChange={(quietFrom) => change({ quietFrom })}
          />
          <span aria-hidden="true">–</span>
          <ClockInput
            label={t("notifications.wish.to")}
            value={wish.quietTo}
            onChange={(quietTo) => change({ quietTo })}
          />
        </div>
        <label className="row">
          <input
            type="checkbox"
            checked={wish.workingDaysOnly}
            onChange={(event) => change({ workingDaysOnly: event.target.checked })}
          />
          {t("notifications.wish.workingDays")}
        </label>
        <p className="faint">{t("notifications.wish.quietText")}</p>
      </fieldset>
      <fieldset>
        <legend>{t("notifications.wish.ways")}</legend>
        {WAYS.map((way) => (
          <label key={way} className="row">
            <input
              type="checkbox"
              checked={wish.channels.includes(way)}
              onChange={() => change({ channels: toggled(wish.channels, way) })}
            />
            {t(`notifications.way.${way}`)}
          </label>
        ))}
        <div className="row">
          <label className="row">
            <input
              type="checkbox"
              checked={wish.digest}
              onChange={(event) => change({ digest: event.target.checked })}
            />
            {t("notifications.wish.digest")}
          </label>
          <ClockInput
            label={t("notifications.wish.digestClock")}
            value={wish.digestClock || "08:30"}
            disabled={!wish.digest}
            clearable={false}
            onChange={(digestClock) => change({ digestClock })}
          />
        </div>
      </fieldset>
      <fieldset>
        <legend>{t("notifications.wish.muted")}</legend>
        {KINDS.map((kind) => (
          <label key={kind} className="row">
            <input
              type="checkbox"
              checked={wish.mutedKinds.includes(kind)}
              onChange={() => change({ mutedKinds: toggled(wish.mutedKinds, kind) })}
            />
            {t(`notifications.kind.${kind}`)}
          </label>
        ))}
      </fieldset>
      <button type="submit" className="button button-primary" disabled={busy}>
        {t("action.save")}
      </button>
    </form>
  );
}
