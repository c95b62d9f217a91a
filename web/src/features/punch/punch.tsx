import { useMutation, useQuery } from "@tanstack/react-query";
import { DatePicker } from "antd";
import dayjs, { type Dayjs } from "dayjs";
import { useEffect, useState } from "react";
import { Link } from "react-router";
import { create, request, type Json } from "@/api/client";
import { ApiError } from "@/api/errors";
import { upload } from "@/api/files";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { formatInstant } from "@/kit/dates";
import { FieldValue, Reference } from "@/kit/field-value";
import { Page } from "@/kit/page";
import { PlainTable } from "@/kit/plain-table";
import { firstPageQuery, useResource, useSession } from "@/kit/queries";
import { ReferencePicker } from "@/kit/reference-picker";
import { Empty } from "@/kit/states";
import { Tile } from "@/kit/tile";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { deviceOf, keep, signed, uptime, waiting, type Punch } from "./device";

const KINDS = ["IN", "OUT", "FIELD"] as const;
const PATIENCE_MS = 15_000;

/** Clocking in and out with place and photo, one's own punches, and the sheet of the month. */
export function PunchPage() {
  const { t } = useText();
  const session = useSession();
  const resource = useResource("attendance");
  const [photo, setPhoto] = useState<File>();
  const [customer, setCustomer] = useState("");
  const [left, setLeft] = useState(waiting().length);

  useEffect(() => {
    const send = async () => {
      const kept = waiting();
      const failed: Json[] = [];
      for (const punch of kept) {
        try {
          await create("attendance", { ...punch, sentUptimeMs: uptime() });
        } catch (error) {
          if (error instanceof ApiError && error.reason === "UNREACHABLE") failed.push(punch);
          else tell(messageOf(error), "bad");
        }
      }
      if (kept.length > 0) {
        keep(failed);
        setLeft(failed.length);
      }
    };
    void send();
    const online = () => void send();
    window.addEventListener("online", online);
    return () => window.removeEventListener("online", online);
  }, []);

  const punch = useMutation({
    // Without a network it must be signed and kept now, not asked for later.
    networkMode: "always",
    mutationFn: async (kind: (typeof KINDS)[number]) => {
      const { coords } = await position();
      const body: Punch = {
        kind,
        deviceTime: new Date().toISOString(),
        lat: coords.latitude,
        lon: coords.longitude,
        accuracyM: Math.round(coords.accuracy),
        datum: "WGS84",
        method: "GPS",
        uptimeMs: uptime(),
        ...(kind === "FIELD" && customer ? { place: customer } : {}),
      };
      const owner = session.employee;
      const device = await deviceOf(owner, navigator.userAgent.slice(0, 100));
      try {
        const picture = photo ? await upload(photo) : undefined;
        await create("attendance", { ...body, ...(picture ? { photo: picture } : {}) });
        return "punched";
      } catch (error) {
        if (!(error instanceof ApiError) || error.reason !== "UNREACHABLE") throw error;
        keep([...waiting(), await signed(body, device)]);
        setLeft(waiting().length);
        return "kept";
      }
    },
    onSuccess: (how) => {
      tell(t(`punch.${how}`), "good");
      setPhoto(undefined);
    },
    onError: (error) =>
      tell(error instanceof GeolocationPositionError ? t("punch.noPlace") : messageOf(error), "bad"),
  });

  return (
    <Page
      title={t("page.punch")}
      note={left > 0 ? <p role="status">{t("punch.waiting", { count: left })}</p> : undefined}
      actions={<Link to="/attendance">{t("punch.all")}</Link>}
    >
      {may(session, resource.permissions.create) && (
        <section className="card card-body stack">
          <div className="row">
            {KINDS.map((kind, index) => (
              <button
                key={kind}
                type="button"
                className={`button ${index === 0 ? "button-primary" : ""}`}
                disabled={punch.isPending}
                onClick={() => punch.mutate(kind)}
              >
                {t(`punch.kind.${kind}`)}
              </button>
            ))}
          </div>
          <div className="row">
            <label className="button drop-button">
              {t("punch.photo")}
              <input
                type="file"
                className="visually-hidden"
                accept="image/*"
                capture="environment"
                onChange={(event) => setPhoto(event.target.files?.[0])}
              />
            </label>
            {photo && <span className="faint cut">{photo.name}</span>}
          </div>
          <div className="stack">
            <label htmlFor="punch-customer">{t("punch.customer")}</label>
            <ReferencePicker
              id="punch-customer"
              collection="accounts"
              many={false}
              value={customer || undefined}
              disabled={false}
              invalid={false}
              onChange={(value) => setCustomer(typeof value === "string" ? value : "")}
            />
          </div>
          <p className="faint">{t("punch.text")}</p>
        </section>
      )}
      <div className="tiles">
        <Mine />
        <Sheet />
      </div>
    </Page>
  );
}

const position = () =>
  new Promise<GeolocationPosition>((resolve, reject) =>
    navigator.geolocation.getCurrentPosition(resolve, reject, {
      enableHighAccuracy: true,
      timeout: PATIENCE_MS,
    }),
  );

function Mine() {
  const { t, language } = useText();
  const resource = useResource("attendance");
  const found = useQuery(
    firstPageQuery("attendance", { filter: "owner = me", orderBy: "punchTime desc", pageSize: 10 }),
  );
  const field = (name: string) => resource.fields.find((one) => one.name === name);
  const kind = field("kind");
  const verdict = field("verdict");
  return (
    <Tile title={t("punch.mine")} wide all="/attendance" query={found}>
      {({ records }) =>
        records.length === 0 ? (
          <Empty title={t("punch.none")} />
        ) : (
          <ul className="tile-rows">
            {records.map((record) => (
              <li key={record.name}>
                <Link to={`/${record.name}`} className="tile-row">
                  <span className="grow">
                    {kind && <FieldValue field={kind} value={record["kind"]} links={false} />}{" "}
                    {formatInstant(String(record["punchTime"] ?? ""), language)}
                    <span className="faint">{String(record["site"] ?? "")}</span>
                  </span>
                  <span className="tile-row-end">
                    {verdict && <FieldValue field={verdict} value={record["verdict"]} links={false} />}
                  </span>
                </Link>
              </li>
            ))}
          </ul>
        )
      }
    </Tile>
  );
}

type Line = Schema<"workspace.AttendanceLine">;

const COLUMNS = ["days", "late", "early", "outside", "suspect", "field", "visitsWithoutPunch"] as const;

/** The month of the person and of those whom the person answers for. */
function Sheet() {
  const { t } = useText();
  const [month, setMonth] = useState(() => thisMonth());
  const found = useQuery({
    queryKey: ["list", "attendance", "sheet", month],
    queryFn: async () =>
      (await (
        await request(`/v1/attendance:sheet?month=${month}`)
      ).json()) as Schema<"workspace.ReadAttendanceSheetResponse">,
    enabled: month !== "",
  });
  return (
    <Tile
      title={t("punch.sheet")}
      wide
      query={found}
      count={
        <DatePicker
          picker="month"
          aria-label={t("punch.month")}
          allowClear={false}
          value={dayjs(month)}
          onChange={(chosen: Dayjs | null) => chosen && setMonth(chosen.format("YYYY-MM"))}
        />
      }
    >
      {(sheet) =>
        (sheet.lines ?? []).length === 0 ? (
          <Empty title={t("punch.none")} />
        ) : (
          <>
            {sheet.closed && <p className="faint">{t("punch.closed")}</p>}
            <PlainTable
              caption={t("punch.sheet")}
              rows={sheet.lines ?? []}
              keyOf={({ employee }) => employee ?? ""}
              columns={[
                {
                  key: "person",
                  title: t("punch.person"),
                  row: true,
                  cell: ({ employee }) => <Reference name={employee ?? ""} />,
                },
                ...COLUMNS.map((key) => ({
                  key,
                  title: t(`punch.column.${key}`),
                  cell: (line: Line) => line[key] ?? 0,
                })),
              ]}
            />
          </>
        )
      }
    </Tile>
  );
}

function thisMonth(): string {
  const now = new Date();
  return `${now.getFullYear()}-${String(now.getMonth() + 1).padStart(2, "0")}`;
}
