import { signInUrl } from "@/api/session";
import { useText } from "@/i18n";
import { LanguageSwitch } from "@/kit/language-switch";

/** Why the person was sent here. */
const ENDED = ["EMPLOYEE_FROZEN", "SESSION_ENDED", "DEVICE_REVOKED"] as const;

export function SignInPage() {
  const { t } = useText();
  const ended = ENDED.find((reason) => location.search === `?ended=${reason}`);
  const here = ended ? import.meta.env.BASE_URL : location.pathname + location.search;
  return (
    <div className="signin">
      <div className="signin-art">
        <svg
          viewBox="0 0 600 800"
          preserveAspectRatio="xMidYMid slice"
          aria-hidden="true"
          fill="none"
          stroke="#8fb0ff"
        >
          <path
            d="M90 210 250 130 410 260 250 400ZM410 260 520 120M250 400 110 560M410 260 480 470 250 400M480 470 360 640"
            opacity=".6"
          />
          {[
            [90, 210, 12],
            [250, 130, 18],
            [410, 260, 26],
            [250, 400, 16],
            [520, 120, 9],
            [110, 560, 11],
            [480, 470, 15],
            [360, 640, 8],
          ].map(([x, y, r]) => (
            <circle key={`${x}-${y}`} cx={x} cy={y} r={r} fill="#3b66e6" />
          ))}
        </svg>
        <h2>{t("session.claim")}</h2>
        <p>{t("session.claimText")}</p>
      </div>
      <main className="signin-box">
        <div className="signin-language">
          <LanguageSwitch />
        </div>
        <img src={`${import.meta.env.BASE_URL}icon.svg`} alt="" />
        <h1>{t("app.name")}</h1>
        {ended && (
          <p className="note note-info" role="status">
            {t(`session.${ended}`)}
          </p>
        )}
        <p className="faint">{t("session.text")}</p>
        <a className="button button-primary" href={signInUrl(here)}>
          {t("session.signIn")}
        </a>
      </main>
    </div>
  );
}
